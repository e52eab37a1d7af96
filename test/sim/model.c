#include "test/sim/sim.h"
int model_serve(FILE *in, FILE *out)
{
    (void)in;
    (void)out;
    return 0;
}
