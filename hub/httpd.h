/* A small HTTP/1.1 server on somebody's libuv loop: a few connections, requests with at most a
 * small body, answers that are made at once. For people, probes and scrapers, not for edges'
 * traffic. Everything on the loop's thread. libwebsockets stays behind it, in httpd.c. */
#ifndef HUB_HTTPD_H
#define HUB_HTTPD_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct tls_material;
struct httpd;

enum httpd_method { HTTPD_GET, HTTPD_HEAD, HTTPD_POST, HTTPD_OTHER };

/* Borrowed by the handler until it returns. */
struct httpd_request {
    enum httpd_method method;
    const char *path;  /* percent-decoded, without the query, normalized: no "..", no "//" */
    const char *query; /* decoded "a=b&c", "" if there is none */
    const char *body;  /* NUL-terminated beyond its size */
    size_t body_size;
    void *wsi; /* for httpd_header() */
};

/* A header by its name in lower case with the colon ("authorization:"). NULL when it is absent,
 * empty or does not fit. */
const char *httpd_header(const struct httpd_request *request, const char *name, char *text,
                         size_t room);

/* What the handler answers; zeroed before. */
struct httpd_response {
    unsigned status;
    const char *content_type;            /* a constant */
    const char *content_security_policy; /* a constant or NULL */
    char *body;                          /* taken: freed by the server, unless is_constant */
    size_t size;
    bool is_constant;
};

/* Sets `body` to a copy of `text`; without memory the status becomes 500. */
void httpd_answer_text(struct httpd_response *response, unsigned status, const char *text);

typedef void (*httpd_handler)(void *context, const struct httpd_request *request,
                              struct httpd_response *response);

struct httpd_options {
    const char *address;      /* HOST:PORT; borrowed until return */
    struct tls_material *tls; /* NULL: plain; borrowed until return. Clients may, but need not, show
                                 a certificate of its CA */
    unsigned max_connections; /* further ones are closed at once */
    uint64_t timeout_ms;   /* for a request to arrive whole, for an answer to leave, and for an idle
                              connection */
    size_t max_body_bytes; /* a larger one is answered 413 */
    httpd_handler handler;
    void *context;
};

/* 0, or a negative errno and `e`. */
int httpd_create(uv_loop_t *loop, const struct httpd_options *options, struct httpd **httpd,
                 struct errbuf *e) __attribute__((warn_unused_result));
/* The port it got. */
uint16_t httpd_port(const struct httpd *httpd);
/* New certificates for new connections. */
int httpd_replace_tls(struct httpd *httpd, struct tls_material *tls)
    __attribute__((warn_unused_result));
/* Stops listening and closes every connection. The loop has to run until nothing of it is alive,
 * then httpd_destroy(). */
void httpd_close(struct httpd *httpd);
void httpd_destroy(struct httpd *httpd);

#endif
