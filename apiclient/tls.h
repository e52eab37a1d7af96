/* The one place that sets up OpenSSL for the client. */
#ifndef APICLIENT_TLS_H
#define APICLIENT_TLS_H

#include "isthmus/errbuf.h"

#include <openssl/ssl.h>
#include <stdbool.h>

struct apitls_settings {
    const char *verify_name; /* the host name or IP address that the certificate must be for */
    bool insecure;
    const char *ca_pem;             /* NULL: the system's */
    const char *cert_pem, *key_pem; /* NULL: no client certificate */
};

/* TLS 1.2 or newer, ALPN h2. 0, -EINVAL (`e` says what is wrong with the material), -ENOMEM. Any
 * thread. */
int apitls_context_create(const struct apitls_settings *settings, SSL_CTX **context,
                          struct errbuf *e) __attribute__((warn_unused_result));

/* A connection's SSL, in connect state, with SNI where verify_name is a host name. NULL: out of
 * memory. Any thread. */
SSL *apitls_connection_create(SSL_CTX *context, const char *verify_name);

/* Lets `ssl` read and write the socket `fd`, which stays the caller's. Unlike SSL_set_fd() it never
 * raises SIGPIPE: a library must not rely on how the process treats signals. 0 or -ENOMEM. */
int apitls_set_socket(SSL *ssl, int fd) __attribute__((warn_unused_result));

/* What a failed SSL_connect, SSL_read or SSL_write means: -EACCES (verification), -EPROTO,
 * -ECONNRESET, or the errno of the socket. Empties the thread's error queue; `text` gets words for
 * the log. */
int apitls_error(const SSL *ssl, int ssl_error, int sys_errno, struct errbuf *text);

#endif
