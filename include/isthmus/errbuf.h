/* A bounded error text for configuration and start-up, wrapped on its way outward:
 *
 *     "kubeconfig /etc/k: user 'hub': client-certificate-data: not base64"
 *
 * Not for the hot path, where a reason enum says more. Any thread, as long as each errbuf has one user. */
#ifndef ISTHMUS_ERRBUF_H
#define ISTHMUS_ERRBUF_H

struct errbuf {
    char text[512];
};

/* Replaces the text. `e` may be NULL (nobody wants to know). Too long a text is cut. */
void errbuf_set(struct errbuf *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "PREFIX: " in front of what is there. `e` may be NULL. */
void errbuf_wrap(struct errbuf *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
