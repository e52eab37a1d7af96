/* See socket.h. IPv4 is kept in its IPv6 form everywhere, so that there is one kind of address. */
#include "hub/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 65535 /* the kernel cuts it to net.core.somaxconn */

void address_map_v4(const struct sockaddr_in *from, struct sockaddr_in6 *to)
{
    *to = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = from->sin_port};
    to->sin6_addr.s6_addr[10] = 0xff;
    to->sin6_addr.s6_addr[11] = 0xff;
    memcpy(to->sin6_addr.s6_addr + 12, &from->sin_addr, 4);
}

static void map_address(const struct sockaddr_storage *from, struct sockaddr_in6 *to)
{
    if (from->ss_family == AF_INET6) {
        memcpy(to, from, sizeof(*to));
        return;
    }
    struct sockaddr_in v4;
    memcpy(&v4, from, sizeof(v4));
    address_map_v4(&v4, to);
}

static int set_flag(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int set_options(int fd, int family, bool is_shared)
{
    int rc = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && is_shared)
        rc = set_flag(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && family == AF_INET6)
        rc = set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    /* Inherited by every accepted socket. */
    return rc != 0 ? rc : set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static int bind_and_listen(const struct addrinfo *a, uint16_t port, bool is_shared)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_storage at;
    memcpy(&at, a->ai_addr, a->ai_addrlen);
    if (a->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)&at)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&at)->sin_port = htons(port);

    int rc = set_options(fd, a->ai_family, is_shared);
    if (rc == 0 && bind(fd, (struct sockaddr *)&at, a->ai_addrlen) != 0)
        rc = -errno;
    if (rc == 0 && listen(fd, BACKLOG) != 0)
        rc = -errno;
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* SO_REUSEPORT would also let a second process of ours take half of the connections. The first
 * socket is tried without. */
static int bind_alone(const struct addrinfo *a, uint16_t port)
{
    int probe = bind_and_listen(a, port, false);
    if (probe < 0)
        return probe;
    close(probe);
    return bind_and_listen(a, port, true);
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage at;
    struct sockaddr_in6 mapped;
    socklen_t size = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        return 0;
    map_address(&at, &mapped);
    return ntohs(mapped.sin6_port);
}

/* Without IPv6 in the kernel [::] still means every address. */
static int listen_anywhere(const char *host, uint16_t port, bool is_first, struct errbuf *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    bool is_any = host[0] == '\0' || strcmp(host, "::") == 0;
    int rc = getaddrinfo(is_any ? "::" : host, NULL, &hints, &found);
    if (rc != 0) {
        errbuf_set(e, "%s", gai_strerror(rc));
        return -EINVAL;
    }
    int fd = is_first ? bind_alone(found, port) : bind_and_listen(found, port, true);
    freeaddrinfo(found);
    if (fd == -EAFNOSUPPORT && is_any)
        return listen_anywhere("0.0.0.0", port, is_first, e);
    if (fd < 0)
        errbuf_set(e, "%s", strerror(-fd));
    return fd;
}

int socket_listen(const char *address, uint16_t *port, struct errbuf *e)
{
    char host[256];
    uint16_t wanted;
    if (!address || options_parse_address(address, host, &wanted) != 0) {
        errbuf_set(e, "'%s' is not HOST:PORT", address ? address : "");
        return -EINVAL;
    }
    int fd = listen_anywhere(host, *port ? *port : wanted, *port == 0, e);
    if (fd >= 0)
        *port = bound_port(fd);
    else
        errbuf_wrap(e, "%s", address);
    return fd;
}

int socket_accept(int fd, struct sockaddr_in6 *peer)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof(at);
    int accepted = accept4(fd, (struct sockaddr *)&at, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted < 0)
        return -errno;
    map_address(&at, peer);
    return accepted;
}

uint64_t socket_acked_bytes(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_bytes_acked : 0;
}

/* tcpi_state, as in include/net/tcp_states.h of the kernel; <linux/tcp.h> does not name them, and
 * <netinet/tcp.h> does not go together with it. */
enum {
    STATE_TIME_WAIT = 6,
    STATE_CLOSE = 7,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_CLOSING = 11
};

/* By the state of the connection, for there may be bytes that nobody has read before it ended: a
 * reset, or its end. */
bool socket_peer_has_left(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return true;
    return info.tcpi_state == STATE_CLOSE || info.tcpi_state == STATE_CLOSE_WAIT ||
           info.tcpi_state == STATE_LAST_ACK || info.tcpi_state == STATE_CLOSING ||
           info.tcpi_state == STATE_TIME_WAIT;
}

void socket_local_address(char *to, size_t room)
{
    struct ifaddrs *all = NULL;
    snprintf(to, room, "127.0.0.1");
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        bool is_usable = i->ifa_addr && i->ifa_addr->sa_family == AF_INET &&
                         (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK);
        if (is_usable && getnameinfo(i->ifa_addr, sizeof(struct sockaddr_in), to, (socklen_t)room,
                                     NULL, 0, NI_NUMERICHOST) == 0)
            break;
    }
    freeifaddrs(all);
}

void address_format(const struct sockaddr_in6 *address, char text[ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = ntohs(address->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
        inet_ntop(AF_INET, address->sin6_addr.s6_addr + 12, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT_BYTES, "%s:%u", host, port);
        return;
    }
    inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host));
    snprintf(text, ADDRESS_TEXT_BYTES, "[%s]:%u", host, port);
}

/* ---- networks ---- */

static int parse_network(const char *text, struct in6_addr *prefix, unsigned *bits)
{
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    struct in_addr v4;
    unsigned offset = 0;

    if (size >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = '\0';
    if (inet_pton(AF_INET, host, &v4) == 1) {
        memset(prefix, 0, sizeof(*prefix));
        prefix->s6_addr[10] = prefix->s6_addr[11] = 0xff;
        memcpy(prefix->s6_addr + 12, &v4, 4);
        offset = 96;
    } else if (inet_pton(AF_INET6, host, prefix) != 1) {
        return -EINVAL;
    }
    *bits = 128;
    if (!slash)
        return 0;
    char *end;
    unsigned long length = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end || length > 128 - offset)
        return -EINVAL;
    *bits = (unsigned)length + offset;
    return 0;
}

int address_list_parse(struct address_list *list, const struct option_list *texts, struct errbuf *e)
{
    list->count = 0;
    for (size_t i = 0; i < texts->count; i++) {
        if (parse_network(texts->items[i], &list->networks[i].prefix, &list->networks[i].bits) !=
            0) {
            errbuf_set(e, "'%s' is neither an address nor ADDRESS/BITS", texts->items[i]);
            return -EINVAL;
        }
        list->count++;
    }
    return 0;
}

static bool network_has(const struct in6_addr *prefix, unsigned bits,
                        const struct in6_addr *address)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(prefix->s6_addr, address->s6_addr, whole) != 0)
        return false;
    if (rest == 0)
        return true;
    unsigned mask = 0xffu << (8 - rest) & 0xffu;
    return ((prefix->s6_addr[whole] ^ address->s6_addr[whole]) & mask) == 0;
}

bool address_list_has(const struct address_list *list, const struct in6_addr *address)
{
    for (size_t i = 0; i < list->count; i++)
        if (network_has(&list->networks[i].prefix, list->networks[i].bits, address))
            return true;
    return false;
}
