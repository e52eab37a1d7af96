/* Sockets of the edge side: listening, per-connection options, addresses. Any thread. */
#ifndef HUB_SOCKET_H
#define HUB_SOCKET_H

#include "isthmus/errbuf.h"
#include "isthmus/options.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* A listening socket with SO_REUSEPORT on HOST:PORT; [::] and :PORT take IPv4 too. `port` 0 in
 * `address` takes any, `*port` then says which; a non-zero *port overrides the address's. Returns
 * the descriptor or a negative errno and `e`; with *port 0 also -EADDRINUSE where others share it. */
int socket_listen(const char *address, uint16_t *port, struct errbuf *e);
/* The next connection with its peer (IPv4 as ::ffff:a.b.c.d), non-blocking and close-on-exec; or a
 * negative errno. */
int socket_accept(int fd, struct sockaddr_in6 *peer);
/* Bytes the peer's TCP has acknowledged so far; 0 when the kernel does not say. */
uint64_t socket_acked_bytes(int fd);
bool socket_peer_has_left(int fd);

/* The first address of this machine that others can reach, 127.0.0.1 if there is none: what CloudCore
 * calls its local IP. */
void socket_local_address(char *to, size_t room);

void address_map_v4(const struct sockaddr_in *from, struct sockaddr_in6 *to);
/* "1.2.3.4:567", "[::1]:567". */
#define ADDRESS_TEXT_BYTES 64
void address_format(const struct sockaddr_in6 *address, char text[ADDRESS_TEXT_BYTES]);

/* Networks, such as --proxy-protocol-from names. */
struct address_list {
    struct {
        struct in6_addr prefix;
        unsigned bits;
    } networks[OPTION_LIST_MAX];
    size_t count;
};
/* Addresses or CIDRs, IPv4 or IPv6. 0, or -EINVAL and `e`. */
int address_list_parse(struct address_list *list, const struct option_list *texts, struct errbuf *e)
    __attribute__((warn_unused_result));
bool address_list_has(const struct address_list *list, const struct in6_addr *address);

#endif
