/* What main.c and the two protocols, resp.c and etcd.c, know of each other. */

#ifndef LOAD_H
#define LOAD_H
#include <stddef.h>
#include <stdint.h>

struct connection {
    int fd;
    long missing;          /* answers of the pipeline that was sent */
    char *out;             /* that pipeline */
    size_t sent, to_send;
    int waits_to_send;
    double began;          /* when it was sent, in seconds */
    /* What a protocol knows of an answer that is not here as a whole. */
    char head[64];
    size_t head_size;
    long body;             /* bytes still to come */
    long values;           /* etcd: how many answers had one */
    uint32_t stream;       /* etcd: the next one's number */
};

struct protocol {
    size_t request_bytes_max;                       /* beside key and value */
    char *(*greet)(char *at);                       /* what a connection begins with */
    char *(*get)(struct connection *, char *at, const char *key);
    char *(*set)(struct connection *, char *at, const char *key);
    void (*take)(struct connection *, const char *data, size_t size);
};

extern const struct protocol resp, etcd;
extern const char *value;  /* of the next SET */
extern long value_bytes;

#define KEY_BYTES 16
#define WAIT_COMMAND "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"

void fail(const char *what, const char *detail) __attribute__((noreturn));
void send_now(struct connection *, const char *data, size_t size);
#endif
