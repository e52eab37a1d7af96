/* Random JSON for the tests of parsers: generated texts that reach the corners (escapes,
 * surrogates, limits of numbers, depth), and mutations that make them nearly right. Everything
 * follows from the seed. */
#ifndef TEST_JSONGEN_H
#define TEST_JSONGEN_H

#include <stddef.h>
#include <stdint.h>

/* xorshift64*: small, and the same everywhere. */
struct prng {
    uint64_t state; /* not 0 */
};

uint32_t prng_next(struct prng *p);
uint32_t prng_below(struct prng *p, uint32_t limit); /* 0 .. limit - 1 */

/* Where texts grow; what does not fit is left out. */
struct jsongen {
    struct prng *prng;
    char *to;
    size_t size, room;
};

/* Appends any value, at most `depth` levels deep. Nearly always valid. */
void jsongen_value(struct jsongen *g, unsigned depth);
/* Appends a KubeEdge message, with keys in any order, some twice, some unknown, some of the wrong
 * type. */
void jsongen_envelope(struct jsongen *g);
/* Damages what is there in a few places: bytes, pieces cut out or doubled, tokens put in. */
void jsongen_mutate(struct jsongen *g);

/* How many rounds a test makes: `rounds`, or twenty times as many with ISTHMUS_LONG=1. */
long jsongen_rounds(long rounds);
/* ISTHMUS_SEED, or a constant. */
uint64_t jsongen_seed(void);

#endif
