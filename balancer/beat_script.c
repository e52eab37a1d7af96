/* The script, as the Makefile made it of beat.lua. */
#include "balancer/beat.h"

const char beat_script[] = {
#include "beat.inc"
    0};
