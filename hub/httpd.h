/* A small HTTP/1.1 server on somebody's libuv loop: a few connections, requests (any of them, a GET
 * too) with at most a small body, answers that are made at once or a little later. For people,
 * probes, scrapers and edges that join, not for edges' traffic. Everything on the loop's thread.
 * libwebsockets stays behind it, in httpd.c. */
#ifndef HUB_HTTPD_H
#define HUB_HTTPD_H

#include "isthmus/errbuf.h"

#include <netinet/in.h>
#include <openssl/types.h>
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
    const struct sockaddr_in6 *peer; /* IPv4 as ::ffff:a.b.c.d */
    struct httpd_exchange *exchange; /* for httpd_header() and its like */
};

/* A header by its name in lower case with the colon ("authorization:"), without the blanks around
 * it; of a repeated one the first. NULL when it is absent, empty or does not fit. */
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

/* The certificate the client showed, borrowed until the handler returns, or NULL; and whether it is
 * of
 * --tls-ca's, for clients, and valid now. */
X509 *httpd_client_certificate(const struct httpd_request *request, bool *is_verified);

/* In a handler, which then leaves the response zeroed: the answer comes later, by httpd_answer(),
 * within timeout_ms. `gone` runs instead if the connection ends before that. */
struct httpd_exchange *httpd_defer(const struct httpd_request *request, void (*gone)(void *context),
                                   void *context);
/* The answer, whose body it takes. Not from within the handler. */
void httpd_answer(struct httpd_exchange *exchange, const struct httpd_response *response);

/* Sets `body` to a copy of `text`; without memory the status becomes 500. */
void httpd_answer_text(struct httpd_response *response, unsigned status, const char *text);

typedef void (*httpd_handler)(void *context, const struct httpd_request *request,
                              struct httpd_response *response);

struct httpd_options {
    const char *address;      /* HOST:PORT; borrowed until return */
    struct tls_material *tls; /* NULL: plain; borrowed until return. Clients may, but need not, show
                                 a certificate, see httpd_client_certificate() */
    unsigned max_connections; /* near it whoever has been waited for longest is closed, beyond it
                                 further ones */
    unsigned accept_rate;     /* connections taken in a second, and at once; 0: any number */
    uint64_t timeout_ms;   /* for a request to arrive whole, for an answer to leave, and for an idle
                              connection */
    size_t max_body_bytes; /* a larger one is answered 413 */
    httpd_handler handler;
    /* What the server itself refuses: 405, 413, or 503 (too many connections; that one is not
     * told). May be NULL. */
    void (*refused)(void *context, unsigned status);
    /* Whether a connection is taken at all, before TLS; else it is closed at once. NULL:
     * everybody's is. */
    bool (*admit)(void *context, const struct sockaddr_in6 *peer);
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
