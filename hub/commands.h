/* What the control socket is asked (see control.h): status, drain, undrain, explain. Control
 * thread. */
#ifndef HUB_COMMANDS_H
#define HUB_COMMANDS_H

#include "hub/admin.h"
#include "hub/control.h"
#include "hub/explain.h"
#include "hub/mover.h"

struct commands {
    struct admin *admin;
    struct hub *hub;
    struct mover *mover;
    struct explainer *explainer;
    bool is_stopping; /* the process ends: a drain cannot be called off */
};

/* For struct control_handler; `context` is a struct commands. */
void commands_request(void *context, struct control_request *request, const char *word,
                      const char *argument);

#endif
