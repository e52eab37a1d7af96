/* What a pod's spec mentions: the edges of the Node authorizer's graph
 * (plugin/pkg/auth/authorizer/node/graph.go, AddPod). Pure; any thread. */
#ifndef DEVAPI_MENTIONS_H
#define DEVAPI_MENTIONS_H

#include "test/devapi/text.h"

#include <jansson.h>
#include <stdbool.h>

/* Appends NUL-terminated "s/NAME" (secret), "c/NAME" (configmap), "p/NAME" (claim), "a/NAME"
 * (service account). `spec` is borrowed and may be NULL. */
void dev_mentions_add(struct dev_text *out, const json_t *spec);
/* Whether the list that dev_mentions_add() made, closed by an empty string, has this one. */
bool dev_mentions_has(const char *mentions, char type, const char *name);

#endif
