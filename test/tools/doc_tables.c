/* Prints the tables that the documents hold, from the tables of the program:
 *
 *     doc-tables flags|metrics
 *
 * scripts/doc-tables.sh puts them in their places, and `make lint` compares. */
#include "hub/config.h"
#include "hub/facts.h"
#include "hub/hub_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_metrics(void)
{
    struct metric_text text = {0};
    facts_metrics_markdown(&text);
    if (text.failed || !text.bytes)
        return 1;
    fputs(text.bytes, stdout);
    free(text.bytes);
    return 0;
}

int main(int argc, char **argv)
{
    const char *table = argc == 2 ? argv[1] : "";
    if (strcmp(table, "flags") == 0) {
        options_print_markdown(stdout, config_options);
        return 0;
    }
    if (strcmp(table, "metrics") == 0)
        return print_metrics();
    fprintf(stderr, "usage: doc-tables flags|metrics\n");
    return 2;
}
