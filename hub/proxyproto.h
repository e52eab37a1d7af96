/* The PROXY protocol header, versions 1 and 2, that a load balancer puts in front of a connection
 * to say whose it is (HAProxy doc/proxy-protocol.txt). Pure: bytes in, verdict out.
 *
 * Happy path: read what the socket has (MSG_PEEK or a buffer of PROXYPROTO_MAX), call
 * proxyproto_parse(), on 0 wait for more, on a positive result drop so many bytes: the TLS hello
 * follows.
 *
 * The address serves logs and limits, never identity. Any thread. */
#ifndef HUB_PROXYPROTO_H
#define HUB_PROXYPROTO_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

/* A longer header is refused. The longest ones carry TLVs of a TLS-terminating proxy, a few hundred
 * bytes. */
#define PROXYPROTO_MAX 4096

struct proxy_header {
    /* Version 1 UNKNOWN, version 2 LOCAL (the balancer's own health check), UNSPEC or UNIX: the
     * peer of the socket counts. */
    bool has_source;
    bool is_local;                  /* version 2 LOCAL */
    struct sockaddr_storage source; /* AF_INET or AF_INET6 with port, where has_source */
};

/* Looks at the first bytes of a connection. The header's length once it is complete, 0 when more
 * bytes are needed (never when there are PROXYPROTO_MAX), -EBADMSG for what is no header (as soon
 * as that is certain), -EMSGSIZE for one longer than PROXYPROTO_MAX. */
int proxyproto_parse(const void *bytes, size_t size, struct proxy_header *header)
    __attribute__((warn_unused_result));

#endif
