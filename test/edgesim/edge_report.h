/* The results: JSON with stable names (test/edgesim/README.md lists them), a live line, a few lines
 * at the end, and what was expected of them. Loop thread only. */
#ifndef EDGE_REPORT_H
#define EDGE_REPORT_H

#include "test/edgesim/edge_fleet.h"

#include <jansson.h>

/* A new reference, NULL without memory; with the samples or without. */
json_t *edge_report_json(struct edge_fleet *f, bool with_samples);
json_t *edge_report_nodes(struct edge_fleet *f, uint32_t limit); /* 0: all */

/* Where `--json` says. 0 or -errno. */
int edge_report_write(struct edge_fleet *f);
void edge_report_line(struct edge_fleet *f, const struct edge_sample *s);
void edge_report_summary(struct edge_fleet *f);
/* Whether all expectations hold; what fails is printed to stderr. */
bool edge_report_expectations(struct edge_fleet *f);

#endif
