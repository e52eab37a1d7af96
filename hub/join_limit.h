/* How often may be asked without a certificate: in all, and from one address. A fixed table of
 * token buckets, so that many addresses cost no memory; when it is full, the address that was
 * silent longest is forgotten. Pure: time is an argument. */
#ifndef HUB_JOIN_LIMIT_H
#define HUB_JOIN_LIMIT_H

#include "hub/bucket.h"

#include <netinet/in.h>

#define JOIN_LIMIT_SETS 256
#define JOIN_LIMIT_WAYS 4

struct join_limit {
    uint64_t rate,
        address_rate; /* a second; 0: no limit. So many seconds' worth may come at once: */
    uint64_t burst, address_burst;
    uint64_t seed; /* so that nobody can choose whose entry an address meets */
    struct bucket all;
    struct join_limit_entry {
        struct in6_addr address; /* of IPv6, the /64 */
        bool is_used;
        struct bucket bucket;
    } entries[JOIN_LIMIT_SETS][JOIN_LIMIT_WAYS];
};

enum join_limit_verdict { JOIN_LIMIT_PASSES, JOIN_LIMIT_ADDRESS, JOIN_LIMIT_ALL };

/* `burst_s`: how many seconds' worth may come at once. */
void join_limit_init(struct join_limit *l, uint64_t rate, uint64_t address_rate, uint64_t burst_s,
                     uint64_t seed, uint64_t now_ms);
/* One request of `address`, or of whatever else tells peers apart. What its own limit refuses takes
 * nothing from the others. */
enum join_limit_verdict join_limit_take(struct join_limit *l, const struct in6_addr *address,
                                        uint64_t now_ms);

#endif
