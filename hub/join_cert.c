/* See join_cert.h. */
#include "hub/join_cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_S       86400
#define AUTHORITY_S (36400LL * DAY_S) /* "a hundred years" of 364 days */
#define CA_SERIAL   1024

static int fail(struct errbuf *e, int rc, const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *why = error ? ERR_reason_error_string(error) : NULL;
    errbuf_set(e, "%s%s%s", what, why ? ": " : "", why ? why : "");
    ERR_clear_error();
    return rc;
}

/* ---- pairs ---- */

void join_pair_free(struct join_pair *pair)
{
    secret_bytes_free(&pair->certificate_der);
    secret_bytes_free(&pair->key_der);
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
    *pair = (struct join_pair){0};
}

static int parse_pair(struct join_pair *p, struct errbuf *e)
{
    const unsigned char *at = p->certificate_der.at, *end = at + p->certificate_der.size;
    ERR_clear_error();
    p->certificate = d2i_X509(NULL, &at, (long)p->certificate_der.size);
    if (!p->certificate || at != end)
        return fail(e, -EINVAL, "the certificate is not DER");
    at = p->key_der.at;
    end = at + p->key_der.size;
    p->key = d2i_PrivateKey(EVP_PKEY_EC, NULL, &at, (long)p->key_der.size);
    if (!p->key || at != end)
        return fail(e, -EINVAL, "the key is not an EC key in DER");
    if (X509_check_private_key(p->certificate, p->key) != 1)
        return fail(e, -EINVAL, "the key is not the certificate's");
    return 0;
}

int join_pair_parse(struct join_pair *pair, struct secret_bytes *certificate_der,
                    struct secret_bytes *key_der, struct errbuf *e)
{
    struct join_pair p = {.certificate_der = *certificate_der, .key_der = *key_der};
    *certificate_der = *key_der = (struct secret_bytes){0};
    int rc = parse_pair(&p, e);
    if (rc != 0)
        join_pair_free(&p);
    else
        *pair = p;
    return rc;
}

/* ---- making ---- */

struct wish {
    const char *organization, *common_name;
    const char *usage, *extended_usage;
    const GENERAL_NAMES *names;
    bool is_ca;
    int64_t begins_s, ends_s;
};

static bool set_serial(X509 *certificate, bool is_ca)
{
    uint64_t serial = CA_SERIAL;
    if (!is_ca && RAND_bytes((unsigned char *)&serial, sizeof(serial)) != 1)
        return false;
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate),
                                   is_ca ? serial : serial >> 1) == 1;
}

/* As Go encodes such texts. */
static bool add_name(X509_NAME *name, int nid, const char *text)
{
    return !text || X509_NAME_add_entry_by_NID(name, nid, V_ASN1_PRINTABLESTRING,
                                               (const unsigned char *)text, -1, -1, 0) == 1;
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool is_added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool add_extensions(X509 *certificate, X509 *issuer, const struct wish *w)
{
    if (!add_extension(certificate, issuer, NID_key_usage, w->usage) ||
        !add_extension(certificate, issuer, NID_ext_key_usage, w->extended_usage))
        return false;
    if (w->is_ca)
        return add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE") &&
               add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
    if (X509_get0_subject_key_id(issuer) &&
        !add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always"))
        return false;
    return sk_GENERAL_NAME_num(w->names) <= 0 ||
           X509_add1_ext_i2d(certificate, NID_subject_alt_name, (void *)(uintptr_t)w->names, 0,
                             0) == 1;
}

/* Signed by `issuer_key`; issuer NULL: by itself. */
static X509 *make(const struct wish *w, EVP_PKEY *public_key, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *certificate = X509_new();
    if (!certificate)
        return NULL;
    X509_NAME *subject = X509_get_subject_name(certificate);
    if (X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate, w->is_ca) &&
        ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)w->begins_s) &&
        ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)w->ends_s) &&
        add_name(subject, NID_organizationName, w->organization) &&
        add_name(subject, NID_commonName, w->common_name) &&
        X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject) == 1 &&
        X509_set_pubkey(certificate, public_key) == 1 &&
        add_extensions(certificate, issuer ? issuer : certificate, w) &&
        X509_sign(certificate, issuer_key, EVP_sha256()) > 0)
        return certificate;
    X509_free(certificate);
    return NULL;
}

/* i2d_*() of OpenSSL allocates on its own; ours are zeroed when they are freed. */
static int keep_der(struct secret_bytes *to, unsigned char *der, int size)
{
    int rc = size > 0 ? secret_bytes_copy(to, der, (size_t)size) : -ENOMEM;
    if (size > 0)
        OPENSSL_clear_free(der, (size_t)size);
    return rc;
}

static int keep(struct join_pair *p, struct errbuf *e)
{
    unsigned char *der = NULL;
    if (!p->key || !p->certificate)
        return fail(e, -EIO, "no certificate can be made");
    int size = i2d_X509(p->certificate, &der);
    int rc = keep_der(&p->certificate_der, der, size);
    if (rc == 0) {
        der = NULL;
        size = i2d_PrivateKey(p->key, &der);
        rc = keep_der(&p->key_der, der, size);
    }
    return rc != 0 ? fail(e, rc, "no memory") : 0;
}

/* Gives `pair` a key and the certificate that is wished for. */
static int make_pair(const struct wish *w, const struct join_pair *issuer, struct join_pair *pair,
                     struct errbuf *e)
{
    struct join_pair p = {.key = EVP_EC_gen("P-256")};
    ERR_clear_error();
    if (p.key)
        p.certificate =
            make(w, p.key, issuer ? issuer->certificate : NULL, issuer ? issuer->key : p.key);
    int rc = keep(&p, e);
    if (rc != 0)
        join_pair_free(&p);
    else
        *pair = p;
    return rc;
}

int join_make_ca(int64_t now_s, struct join_pair *ca, struct errbuf *e)
{
    const struct wish wish = {.common_name = "KubeEdge",
                              .usage = "critical,digitalSignature,keyEncipherment,keyCertSign",
                              .extended_usage = "serverAuth,clientAuth",
                              .is_ca = true,
                              .begins_s = now_s,
                              .ends_s = now_s + AUTHORITY_S};
    return make_pair(&wish, NULL, ca, e);
}

static bool has_expired(const X509 *certificate, int64_t now_s)
{
    time_t now = (time_t)now_s;
    return X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0;
}

int join_check_ca(const struct join_pair *ca, int64_t now_s, struct errbuf *e)
{
    X509 *certificate = ca->certificate;
    uint32_t flags = X509_get_extension_flags(certificate);
    const char *why = NULL;
    if ((flags & EXFLAG_INVALID) || !(flags & EXFLAG_CA))
        why = "the certificate is not a CA's";
    else if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN))
        why = "the certificate may not sign others";
    else if (has_expired(certificate, now_s))
        why = "the certificate has expired";
    if (!why)
        return 0;
    errbuf_set(e, "%s", why);
    return -EINVAL;
}

/* ---- names ---- */

static bool push_name(GENERAL_NAMES *names, int type, const void *bytes, int size)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *value = type == GEN_DNS ? (ASN1_STRING *)ASN1_IA5STRING_new()
                                         : (ASN1_STRING *)ASN1_OCTET_STRING_new();
    if (name && value && ASN1_STRING_set(value, bytes, size) == 1) {
        GENERAL_NAME_set0_value(name, type, value);
        if (sk_GENERAL_NAME_push(names, name) > 0)
            return true;
        value = NULL; /* the name's */
    }
    ASN1_STRING_free(value);
    GENERAL_NAME_free(name);
    return false;
}

/* A DNS name, perhaps with a wildcard as its first label. */
static bool is_dns_name(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    size_t size = strlen(text);
    const char *rest = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
    return size <= 253 && rest[0] && rest[0] != '.' && strspn(rest, allowed) == strlen(rest);
}

static bool push_text(GENERAL_NAMES *names, const char *text, bool may_be_address, struct errbuf *e)
{
    unsigned char address[16];
    bool is_added;
    if (may_be_address && inet_pton(AF_INET, text, address) == 1)
        is_added = push_name(names, GEN_IPADD, address, 4);
    else if (may_be_address && inet_pton(AF_INET6, text, address) == 1)
        is_added = push_name(names, GEN_IPADD, address, 16);
    else if (is_dns_name(text))
        is_added = push_name(names, GEN_DNS, text, (int)strlen(text));
    else {
        errbuf_set(e, "'%.200s' is neither an address nor a DNS name", text);
        return false;
    }
    if (!is_added)
        errbuf_set(e, "no memory");
    return is_added;
}

static bool push_list(GENERAL_NAMES *names, const struct option_list *list, bool may_be_address,
                      struct errbuf *e)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i][0] && !push_text(names, list->items[i], may_be_address, e))
            return false;
    }
    return true;
}

GENERAL_NAMES *join_names_create(const struct option_list *dns_names,
                                 const struct option_list *addresses, struct errbuf *e)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    if (!names) {
        errbuf_set(e, "no memory");
        return NULL;
    }
    if (push_list(names, dns_names, false, e) && push_list(names, addresses, true, e))
        return names;
    GENERAL_NAMES_free(names);
    return NULL;
}

static bool has_name(X509 *certificate, const GENERAL_NAME *name)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    const unsigned char *bytes = ASN1_STRING_get0_data(value);
    size_t size = (size_t)ASN1_STRING_length(value);
    if (type == GEN_IPADD)
        return X509_check_ip(certificate, bytes, size, 0) == 1;
    return X509_check_host(certificate, (const char *)bytes, size,
                           X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

static void format_name(const GENERAL_NAME *name, char *text, size_t room)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    const unsigned char *bytes = ASN1_STRING_get0_data(value);
    char address[INET6_ADDRSTRLEN] = "?";
    if (type == GEN_IPADD)
        inet_ntop(ASN1_STRING_length(value) == 4 ? AF_INET : AF_INET6, bytes, address,
                  sizeof(address));
    snprintf(text, room, "%.*s",
             type == GEN_IPADD ? (int)strlen(address) : ASN1_STRING_length(value),
             type == GEN_IPADD ? address : (const char *)bytes);
}

bool join_names_missing(X509 *certificate, const GENERAL_NAMES *names, char *missing, size_t room)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (!has_name(certificate, name)) {
            format_name(name, missing, room);
            ERR_clear_error();
            return true;
        }
    }
    ERR_clear_error();
    return false;
}

/* Those of `old` come first. For GENERAL_NAMES_free(); NULL without memory. */
static GENERAL_NAMES *merge(const GENERAL_NAMES *names, X509 *old)
{
    GENERAL_NAMES *all = old ? X509_get_ext_d2i(old, NID_subject_alt_name, NULL, NULL) : NULL;
    if (!all)
        all = sk_GENERAL_NAME_new_null();
    for (int i = 0; all && i < sk_GENERAL_NAME_num(names); i++) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        bool is_there = false;
        for (int k = 0; !is_there && k < sk_GENERAL_NAME_num(all); k++)
            is_there = GENERAL_NAME_cmp(name, sk_GENERAL_NAME_value(all, k)) == 0;
        GENERAL_NAME *copy = is_there ? NULL : GENERAL_NAME_dup(name);
        if (!is_there && (!copy || sk_GENERAL_NAME_push(all, copy) <= 0)) {
            GENERAL_NAME_free(copy);
            GENERAL_NAMES_free(all);
            all = NULL;
        }
    }
    return all;
}

/* ---- servers and nodes ---- */

int join_make_server(const struct join_pair *ca, const GENERAL_NAMES *names, X509 *old,
                     int64_t now_s, struct join_pair *server, struct errbuf *e)
{
    GENERAL_NAMES *all = merge(names, old);
    if (!all)
        return fail(e, -ENOMEM, "no memory");
    const struct wish wish = {.organization = "KubeEdge",
                              .common_name = "KubeEdge",
                              .usage = "critical,digitalSignature,keyEncipherment",
                              .extended_usage = "serverAuth",
                              .names = all,
                              .begins_s = now_s,
                              .ends_s = now_s + AUTHORITY_S};
    int rc = make_pair(&wish, ca, server, e);
    GENERAL_NAMES_free(all);
    return rc;
}

int join_check_server(const struct join_pair *ca, const struct join_pair *server, int64_t now_s,
                      struct errbuf *e)
{
    const char *why = NULL;
    ERR_clear_error();
    if (X509_check_issued(ca->certificate, server->certificate) != X509_V_OK ||
        X509_verify(server->certificate, ca->key) != 1)
        why = "the certificate is not signed by the CA, so no edge will take it";
    else if (X509_check_purpose(server->certificate, X509_PURPOSE_SSL_SERVER, 0) != 1)
        why = "the certificate is not for servers";
    else if (has_expired(server->certificate, now_s))
        why = "the certificate has expired";
    ERR_clear_error();
    if (!why)
        return 0;
    errbuf_set(e, "%s", why);
    return -EINVAL;
}

static void format_serial(const X509 *certificate, char serial[JOIN_SERIAL_BYTES])
{
    uint64_t number = 0;
    if (ASN1_INTEGER_get_uint64(&number, X509_get0_serialNumber(certificate)) != 1)
        number = 0;
    snprintf(serial, JOIN_SERIAL_BYTES, "%llx", (unsigned long long)number);
}

int join_make_node(const struct join_pair *ca, const char *node, EVP_PKEY *public_key,
                   int64_t now_s, uint64_t lifetime_s, unsigned char **der,
                   char serial[JOIN_SERIAL_BYTES])
{
    char common_name[300];
    int n = snprintf(common_name, sizeof(common_name), "system:node:%s", node);
    if (n < 0 || (size_t)n >= sizeof(common_name))
        return -EIO;
    const struct wish wish = {.organization = "system:nodes",
                              .common_name = common_name,
                              .usage = "critical,digitalSignature,keyEncipherment",
                              .extended_usage = "clientAuth",
                              .begins_s = now_s,
                              .ends_s = now_s + (int64_t)lifetime_s};
    X509 *certificate = make(&wish, public_key, ca->certificate, ca->key);
    *der = NULL;
    int size = certificate ? i2d_X509(certificate, der) : -1;
    if (certificate)
        format_serial(certificate, serial);
    X509_free(certificate);
    ERR_clear_error();
    return size > 0 ? size : -EIO;
}
