/* See proxyproto.h. The two versions differ in their first byte, so that one is never tried after
 * the other. */
#include "hub/proxyproto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

/* ---- version 1: a line of text ---- */

#define V1_PREFIX "PROXY "
#define V1_MAX    107 /* the specification's bound, CRLF included */

/* A word of the line, copied out and NUL-terminated. Words are separated by exactly one space. */
static bool take_word(const char **p, const char *end, char *word, size_t room)
{
    const char *space = memchr(*p, ' ', (size_t)(end - *p));
    size_t size = (size_t)((space ? space : end) - *p);
    if (size == 0 || size >= room || memchr(*p, '\0', size))
        return false;
    memcpy(word, *p, size);
    word[size] = '\0';
    *p = space ? space + 1 : end;
    return true;
}

/* Decimal, no sign, no leading zero, at most 65535. */
static bool read_port(const char *word, in_port_t *port)
{
    size_t digits = strspn(word, "0123456789");
    if (word[digits] != '\0' || digits > 5 || (word[0] == '0' && digits > 1))
        return false;
    uint32_t value = 0;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint32_t)(word[i] - '0');
    *port = htons((uint16_t)value);
    return value <= 65535;
}

static bool read_address(int family, const char *word, const char *port,
                         struct sockaddr_storage *to)
{
    *to = (struct sockaddr_storage){.ss_family = (sa_family_t)family};
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        return inet_pton(family, word, &in->sin_addr) == 1 && read_port(port, &in->sin_port);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    return inet_pton(family, word, &in6->sin6_addr) == 1 && read_port(port, &in6->sin6_port);
}

/* Behind "PROXY ", without the CRLF. */
static bool read_line(const char *p, const char *end, struct proxy_header *header)
{
    char protocol[8], source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN], source_port[6],
        target_port[6];
    struct sockaddr_storage ignored;
    if (!take_word(&p, end, protocol, sizeof(protocol)))
        return false;
    if (strcmp(protocol, "UNKNOWN") == 0)
        return true; /* whatever follows is to be ignored */
    int family = strcmp(protocol, "TCP4") == 0 ? AF_INET : AF_INET6;
    if (family == AF_INET6 && strcmp(protocol, "TCP6") != 0)
        return false;
    if (!take_word(&p, end, source, sizeof(source)) ||
        !take_word(&p, end, target, sizeof(target)) ||
        !take_word(&p, end, source_port, sizeof(source_port)) ||
        !take_word(&p, end, target_port, sizeof(target_port)) || p != end || end[-1] == ' ')
        return false;
    header->has_source = true;
    return read_address(family, source, source_port, &header->source) &&
           read_address(family, target, target_port, &ignored);
}

static int parse_v1(const char *text, size_t size, struct proxy_header *header)
{
    const size_t prefix = sizeof(V1_PREFIX) - 1;
    if (memcmp(text, V1_PREFIX, size < prefix ? size : prefix) != 0)
        return -EBADMSG;
    const char *lf = memchr(text, '\n', size < V1_MAX ? size : V1_MAX);
    if (!lf)
        return size < V1_MAX ? 0 : -EBADMSG;
    size_t line = (size_t)(lf - text); /* with the CR */
    if (line <= prefix || lf[-1] != '\r' || !read_line(text + prefix, lf - 1, header))
        return -EBADMSG;
    return (int)line + 1;
}

/* ---- version 2: binary ---- */

static const unsigned char v2_signature[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                               0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};
#define V2_FIXED 16 /* signature, command, family, length */

enum v2_command { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum v2_family { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX, V2_FAMILY_COUNT };
enum { V2_TRANSPORT_COUNT = 3 }; /* unspecified, stream, datagram */

static size_t read_u16(const unsigned char *p)
{
    return (size_t)p[0] << 8 | p[1];
}

static void read_v2_source(enum v2_family family, const unsigned char *p,
                           struct sockaddr_storage *to)
{
    if (family == V2_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        memcpy(&in->sin_addr, p, 4);
        memcpy(&in->sin_port, p + 8, 2); /* behind the target's address */
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
        in6->sin6_family = AF_INET6;
        memcpy(&in6->sin6_addr, p, 16);
        memcpy(&in6->sin6_port, p + 32, 2);
    }
}

/* What they say is not used, but they must be well-formed up to the header's last byte. */
static bool are_tlvs(const unsigned char *p, size_t size)
{
    while (size >= 3) {
        size_t whole = 3 + read_u16(p + 1);
        if (whole > size)
            return false;
        p += whole;
        size -= whole;
    }
    return size == 0;
}

/* The part behind the fixed one, complete. */
static bool read_v2_body(unsigned char family_byte, const unsigned char *p, size_t size,
                         struct proxy_header *header)
{
    static const size_t address_size[V2_FAMILY_COUNT] = {0, 12, 36, 216};
    unsigned family = family_byte >> 4, transport = family_byte & 15;
    if (family >= V2_FAMILY_COUNT || transport >= V2_TRANSPORT_COUNT)
        return false;
    /* Without family or transport the body is opaque: "ignore it, use the real connection
     * endpoints". */
    if (family == V2_UNSPEC || transport == 0)
        return true;
    if (size < address_size[family] ||
        !are_tlvs(p + address_size[family], size - address_size[family]))
        return false;
    header->has_source = family != V2_UNIX;
    if (header->has_source)
        read_v2_source((enum v2_family)family, p, &header->source);
    return true;
}

static int parse_v2(const unsigned char *p, size_t size, struct proxy_header *header)
{
    const size_t signature = sizeof(v2_signature);
    if (memcmp(p, v2_signature, size < signature ? size : signature) != 0)
        return -EBADMSG;
    if (size > signature && p[signature] != V2_LOCAL && p[signature] != V2_PROXY)
        return -EBADMSG;
    if (size < V2_FIXED)
        return 0;
    size_t body = read_u16(p + 14);
    if (V2_FIXED + body > PROXYPROTO_MAX)
        return -EMSGSIZE;
    if (size < V2_FIXED + body)
        return 0;
    header->is_local = p[signature] == V2_LOCAL;
    if (!header->is_local && !read_v2_body(p[13], p + V2_FIXED, body, header))
        return -EBADMSG;
    return (int)(V2_FIXED + body);
}

int proxyproto_parse(const void *bytes, size_t size, struct proxy_header *header)
{
    *header = (struct proxy_header){.has_source = false};
    if (size == 0)
        return 0;
    int rc = *(const unsigned char *)bytes == v2_signature[0] ? parse_v2(bytes, size, header)
                                                              : parse_v1(bytes, size, header);
    if (rc <= 0)
        *header = (struct proxy_header){.has_source = false};
    return rc;
}
