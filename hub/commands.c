/* See commands.h. */
#include "hub/commands.h"

#include "hub/hub.h"
#include "isthmus/log.h"

#include <string.h>

static void status(struct commands *c, struct control_request *request)
{
    control_answer(request, admin_status(c->admin));
}

static void answer_draining(struct commands *c, struct control_request *request)
{
    control_answer(request, json_pack("{s:b, s:I}", "draining", mover_is_draining(c->mover),
                                      "connected", (json_int_t)hub_connections(c->hub)));
}

static void drain(struct commands *c, struct control_request *request)
{
    if (!mover_is_draining(c->mover))
        log_info("draining", F_STR("asked_by", "control socket"),
                 F_U64("connected", hub_connections(c->hub)));
    mover_set_draining(c->mover, true);
    answer_draining(c, request);
}

static void undrain(struct commands *c, struct control_request *request)
{
    if (c->is_stopping) {
        control_error(request, "this hub was told to stop; start it again instead");
        return;
    }
    if (mover_is_draining(c->mover))
        log_info("undrained", F_STR("asked_by", "control socket"),
                 F_U64("connected", hub_connections(c->hub)));
    mover_set_draining(c->mover, false);
    answer_draining(c, request);
}

void commands_request(void *context, struct control_request *request, const char *word,
                      const char *argument)
{
    struct commands *c = context;
    if (strcmp(word, "status") == 0)
        status(c, request);
    else if (strcmp(word, "drain") == 0)
        drain(c, request);
    else if (strcmp(word, "undrain") == 0)
        undrain(c, request);
    else if (strcmp(word, "explain") == 0)
        explainer_ask(c->explainer, request, argument);
    else
        control_error(request, "there is no request '%.40s': status, drain, undrain, explain NODE",
                      word);
}
