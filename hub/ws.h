/* The websocket layer as the rest of the hub sees it: a context on a libuv loop that takes sockets
 * over, and what can be done with a session's connection. libwebsockets stays behind it, in
 * ws_lws.c. Everything runs on the loop's thread but for ws_create() and ws_replace_tls(), see
 * there. */
#ifndef HUB_WS_H
#define HUB_WS_H

#include "hub/session.h"
#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct ws;
struct tls_material;

/* Before the loop runs, on the thread that will not run it too: contexts are made one after
 * another. `material` is borrowed until return. */
int ws_create(struct hub_loop *loop, uv_loop_t *uv, struct tls_material *material, struct ws **ws,
              struct errbuf *e) __attribute__((warn_unused_result));
/* Begins to close what is left. Then the loop has to run until nothing of it is alive; then
 * ws_destroy(). */
void ws_close_all(struct ws *ws);
void ws_destroy(struct ws *ws);

int ws_replace_tls(struct ws *ws, struct tls_material *material)
    __attribute__((warn_unused_result));

/* Takes the socket, and begins the TLS handshake. On failure (-ECONNABORTED) the socket is closed,
 * and session_on_gone() has run or will. -ENOMEM: the socket is closed, session_on_gone() will not
 * run. */
int ws_adopt(struct ws *ws, int fd, struct session *s) __attribute__((warn_unused_result));

/* One fragment of a text message, `size` bytes at `payload`, with LWS_PRE bytes before it that are
 * overwritten. 0 or -EPIPE; what the socket does not take is kept (see ws_is_choked) and sent
 * later. */
int ws_write(struct session *s, char *payload, size_t size, bool is_first, bool is_last)
    __attribute__((warn_unused_result));
/* Something of what was written is still kept: write no more until session_on_writable(). */
bool ws_is_choked(const struct session *s);
void ws_want_writable(struct session *s);
void ws_set_reading(struct session *s, bool is_reading);
/* How many bytes the peer's TCP has acknowledged so far. */
uint64_t ws_acked_bytes(const struct session *s);

/* Sends a close frame and waits for the peer's. Outside libwebsockets' callbacks. */
void ws_close(struct session *s, unsigned code, const char *text);
/* Shuts the socket down: libwebsockets notices and ends the connection. Anywhere. */
void ws_kill(struct session *s);

#endif
