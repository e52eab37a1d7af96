/* Defaults and initial states that kube-apiserver and its admission plug-ins give new objects, as
 * far as kubelets need them. Pure; any thread. */
#ifndef DEVAPI_DEFAULTS_H
#define DEVAPI_DEFAULTS_H

#include "test/devapi/kinds.h"

#include <jansson.h>

/* 0 or -ENOMEM. */
int dev_defaults_apply(const struct dev_kind *kind, json_t *root, const char *user);

#endif
