"""A small Kubernetes API client on http.client, and watches that remember what they saw."""

import http.client
import json
import ssl
import threading
import time
import urllib.parse

import yaml

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server answered with a Status that is no success."""

    def __init__(self, code, status):
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', status)}")
        self.code = code
        self.reason = status.get("reason")
        self.status = status


class Api:
    """Requests under one identity: a client certificate or a bearer token, and perhaps a node that
    is impersonated. May be used from several threads: each request has its own connection."""

    def __init__(self, port, ca, cert=None, token=None, headers=None):
        self.port = port
        self.ca = ca
        self.cert = cert
        self.headers = dict(headers or {})
        if token:
            self.headers["Authorization"] = "Bearer " + token
        self.context = ssl.create_default_context(cafile=ca)
        if cert:
            self.context.load_cert_chain(*cert)

    def with_headers(self, headers):
        """The same identity with more headers, for example to impersonate."""
        return Api(self.port, self.ca, self.cert, headers={**self.headers, **headers})

    def as_node(self, node, groups=("system:nodes",)):
        headers = {"Impersonate-User": "system:node:" + node}
        if groups:
            headers["Impersonate-Group"] = groups[0]
        return self.with_headers(headers)

    def connect(self, timeout):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                           context=self.context)

    def text(self, method, path, body=None, content_type=JSON, timeout=30):
        """Returns status code and body of one request."""
        connection = self.connect(timeout)
        try:
            headers = dict(self.headers)
            if body is not None:
                headers["Content-Type"] = content_type
                body = json.dumps(body)
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def request(self, method, path, body=None, content_type=JSON, timeout=30):
        """Returns the object of the answer; raises ApiError for anything but a success."""
        code, text = self.text(method, path, body, content_type, timeout)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"message": text}
        if not 200 <= code < 300:
            raise ApiError(code, answer)
        return answer

    def get(self, path):
        return self.request("GET", path)

    def find(self, path):
        """The object, or None if there is none."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def create(self, path, body):
        return self.request("POST", path, body)

    def delete(self, path):
        return self.request("DELETE", path)

    def patch(self, path, body, content_type=MERGE_PATCH):
        return self.request("PATCH", path, body, content_type)

    def apply(self, manifest):
        """Creates or updates one object by server-side apply."""
        path = self.path_of(manifest)
        return self.request("PATCH", f"{path}?fieldManager=e2e&force=true", manifest, APPLY_PATCH)

    def apply_file(self, path):
        with open(path, encoding="utf-8") as file:
            for manifest in yaml.safe_load_all(file):
                if manifest:
                    self.apply(manifest)

    def path_of(self, manifest):
        """Where the API serves this object, as discovery says."""
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = "/apis/" + version if "/" in version else "/api/" + version
        for resource in self.get(root)["resources"]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                meta = manifest["metadata"]
                scope = f"/namespaces/{meta.get('namespace', 'default')}" if resource["namespaced"] else ""
                return f"{root}{scope}/{resource['name']}/{meta['name']}"
        raise ApiError(404, {"message": f"no resource for {version} {kind}"})


class Watch(threading.Thread):
    """Follows one collection in a thread of its own and keeps every event with the time it came.

    events holds (monotonic seconds, type, object), in order, and only grows.
    """

    def __init__(self, api, path):
        super().__init__(daemon=True, name="watch " + path)
        self.api = api
        self.path = path
        self.events = []
        self.version = None
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            try:
                self._follow()
            except (OSError, ValueError, http.client.HTTPException, ApiError):
                time.sleep(0.2)

    def stop(self):
        self.ending = True

    def of(self, name):
        """The events of the object with this name."""
        return [event for event in list(self.events) if event[2]["metadata"]["name"] == name]

    def _follow(self):
        if self.version is None:
            listed = self.api.get(self.path)
            for item in listed["items"]:
                self._add("ADDED", item)
            self.version = listed["metadata"]["resourceVersion"]
        query = urllib.parse.urlencode({"watch": "1", "resourceVersion": self.version,
                                        "allowWatchBookmarks": "1", "timeoutSeconds": "600"})
        connection = self.api.connect(620)
        try:
            connection.request("GET", f"{self.path}?{query}", headers=self.api.headers)
            response = connection.getresponse()
            for line in response:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    self.version = None
                    return
                self.version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._add(event["type"], event["object"])
        finally:
            connection.close()

    def _add(self, kind, item):
        self.events.append((time.monotonic(), kind, item))
