/* See join_limit.h. */
#include "hub/join_limit.h"

#include <string.h>

void join_limit_init(struct join_limit *l, uint64_t rate, uint64_t address_rate, uint64_t burst_s,
                     uint64_t seed, uint64_t now_ms)
{
    *l = (struct join_limit){.rate = rate,
                             .address_rate = address_rate,
                             .burst = rate * burst_s,
                             .address_burst = address_rate * burst_s,
                             .seed = seed};
    bucket_init(&l->all, l->burst, now_ms);
}

/* Whoever has one IPv6 address has a /64 of them. */
static struct in6_addr network_of(const struct in6_addr *address)
{
    struct in6_addr network = *address;
    if (!IN6_IS_ADDR_V4MAPPED(address))
        memset(network.s6_addr + 8, 0, 8);
    return network;
}

/* FNV-1a with a seed. */
static size_t set_of(const struct in6_addr *address, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ seed;
    for (size_t i = 0; i < sizeof(address->s6_addr); i++)
        hash = (hash ^ address->s6_addr[i]) * UINT64_C(1099511628211);
    return (size_t)((hash ^ hash >> 32) % JOIN_LIMIT_SETS);
}

static struct bucket *bucket_of(struct join_limit *l, const struct in6_addr *address,
                                uint64_t now_ms)
{
    const struct in6_addr network = network_of(address);
    struct join_limit_entry *set = l->entries[set_of(&network, l->seed)], *oldest = set;
    for (size_t i = 0; i < JOIN_LIMIT_WAYS; i++) {
        if (set[i].is_used && memcmp(&set[i].address, &network, sizeof(network)) == 0)
            return &set[i].bucket;
        if (oldest->is_used &&
            (!set[i].is_used || set[i].bucket.refilled_ms < oldest->bucket.refilled_ms))
            oldest = &set[i];
    }
    *oldest = (struct join_limit_entry){.address = network, .is_used = true};
    bucket_init(&oldest->bucket, l->address_burst, now_ms);
    return &oldest->bucket;
}

enum join_limit_verdict join_limit_take(struct join_limit *l, const struct in6_addr *address,
                                        uint64_t now_ms)
{
    if (l->address_rate > 0 &&
        !bucket_take(bucket_of(l, address, now_ms), l->address_rate, l->address_burst, now_ms))
        return JOIN_LIMIT_ADDRESS;
    if (l->rate > 0 && !bucket_take(&l->all, l->rate, l->burst, now_ms))
        return JOIN_LIMIT_ALL;
    return JOIN_LIMIT_PASSES;
}
