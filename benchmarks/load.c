/* A closed loop of commands over many connections, for the comparisons of benchmarks/: light, so that the servers have
   the machine, and the same for all of them.

       load PORT[,PORT…] CLIENTS PIPELINE SECONDS COMMAND [VALUE_BYTES [KEYS]]

   COMMAND   set        SET of a random key
             set-wait   the same, and `WAIT 1 0` after each pipeline: at Redis a write is then at two servers
             get        GET of a random key
             fill       SET of the keys 0, 1, 2, … once each; SECONDS is not looked at
   Each connection sends a pipeline; when all replies are there it sends the next. Connections are dealt to the ports in
   turn. A first tenth of the time is not counted. Prints one JSON object: commands per second (WAIT does not count), and
   the latency of a pipeline in milliseconds. Exit code 1, with the reply, where one is an error, or a WAIT found nobody. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 16
#define READ_BYTES (256 * 1024)
#define WAIT_COMMAND "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"

enum kind { SET, SET_WAIT, GET, FILL };

struct connection {
    int fd;
    long missing;        /* replies */
    long bulk;           /* bytes of a bulk still to come, its CRLF included */
    char line[64];       /* the beginning of a reply that is not here yet */
    size_t line_size, sent, to_send;
    int waits_to_send;
    char *out;
    double began;
};

static enum kind kind;
static long pipeline, value_bytes = 64, keys = 100000, next_key;
static char *value;
static uint64_t state = 88172645463325252ULL;
static uint32_t *times_us;
static size_t times_count, times_size;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "load: %s: %s\n", what, detail);
    exit(1);
}

static long random_key(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (long)(state % (uint64_t)keys);
}

static void note_time(double seconds) {
    if (times_count == times_size) {
        times_size = times_size ? 2 * times_size : 1 << 16;
        times_us = realloc(times_us, times_size * sizeof *times_us);
        if (!times_us) fail("memory", "none");
    }
    times_us[times_count++] = (uint32_t)(seconds * 1e6);
}

static void flush_out(struct connection *c, int poll) {
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, c->out + c->sent, c->to_send - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) fail("send", strerror(errno));
        if (n < 0) break;
        c->sent += (size_t)n;
    }
    if (c->waits_to_send != (c->sent < c->to_send)) {
        c->waits_to_send = c->sent < c->to_send;
        struct epoll_event event = {.events = EPOLLIN | (c->waits_to_send ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event);
    }
}

static void send_pipeline(struct connection *c, int poll) {
    char *at = c->out;
    long count = pipeline;
    if (kind == FILL && next_key + count > keys) count = keys - next_key;
    for (long i = 0; i < count; i++) {
        long key = kind == FILL ? next_key++ : random_key();
        if (kind == GET) {
            at += sprintf(at, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012ld\r\n", key);
        } else {
            at += sprintf(at, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012ld\r\n$%ld\r\n", key, value_bytes);
            memcpy(at, value, (size_t)value_bytes + 2);
            at += value_bytes + 2;
        }
    }
    if (kind == SET_WAIT) at += sprintf(at, WAIT_COMMAND);
    c->missing = count + (kind == SET_WAIT);
    c->sent = 0;
    c->to_send = (size_t)(at - c->out);
    c->began = now();
    flush_out(c, poll);
}

/* One line of a reply, without its CRLF. */
static void take_line(struct connection *c, const char *line) {
    if (line[0] == '-') fail("refused", line);
    if (kind == SET_WAIT && line[0] == ':' && line[1] == '0') fail("refused", "WAIT found no replica");
    if (line[0] == '$' && line[1] != '-') {
        c->bulk = atol(line + 1) + 2;
        return;
    }
    c->missing--;
}

static void take(struct connection *c, const char *data, size_t size) {
    while (size) {
        if (c->bulk) {
            size_t n = size < (size_t)c->bulk ? size : (size_t)c->bulk;
            c->bulk -= (long)n;
            data += n;
            size -= n;
            if (!c->bulk) c->missing--;
            continue;
        }
        const char *end = memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) + 1 : size;
        size_t room = sizeof c->line - 1 - c->line_size;
        memcpy(c->line + c->line_size, data, n < room ? n : room);
        c->line_size += n < room ? n : room;
        data += n;
        size -= n;
        if (end) {
            c->line[c->line_size] = 0;
            c->line[strcspn(c->line, "\r\n")] = 0;
            c->line_size = 0;
            take_line(c, c->line);
        }
    }
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(double share) {
    size_t at = (size_t)(share * (double)times_count);
    return times_count ? times_us[at < times_count ? at : times_count - 1] / 1000.0 : 0;
}

int main(int count, char **words) {
    if (count < 6) fail("usage", "load PORT[,PORT...] CLIENTS PIPELINE SECONDS set|set-wait|get|fill [VALUE_BYTES [KEYS]]");
    int ports[PORTS_MAX], ports_count = 0;
    for (char *word = strtok(words[1], ","); word && ports_count < PORTS_MAX; word = strtok(NULL, ","))
        ports[ports_count++] = atoi(word);
    long clients = atol(words[2]);
    pipeline = atol(words[3]);
    double seconds = atof(words[4]);
    const char *names[] = {"set", "set-wait", "get", "fill"};
    for (kind = SET; kind <= FILL && strcmp(words[5], names[kind]); kind++) {}
    if (kind > FILL || !ports_count || clients < 1 || pipeline < 1) fail("usage", words[5]);
    if (count > 6) value_bytes = atol(words[6]);
    if (count > 7) keys = atol(words[7]);
    value = malloc((size_t)value_bytes + 2);
    memset(value, 'x', (size_t)value_bytes);
    memcpy(value + value_bytes, "\r\n", 2);
    state += (uint64_t)getpid() * 0x9E3779B97F4A7C15ULL;

    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)clients, sizeof *all);
    for (long i = 0; i < clients; i++) {
        struct connection *c = &all[i];
        c->fd = dial(ports[i % ports_count]);
        c->out = malloc((size_t)pipeline * (size_t)(value_bytes + 96) + sizeof WAIT_COMMAND);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
    }
    double begin = now(), count_from = kind == FILL ? begin : begin + seconds / 10, end = count_from + seconds, last = begin;
    long busy = 0, done = 0;
    for (long i = 0; i < clients && (kind != FILL || next_key < keys); i++, busy++) send_pipeline(&all[i], poll);
    static char data[READ_BYTES];
    struct epoll_event events[256];
    while (busy) {
        int ready = epoll_wait(poll, events, 256, 30000);
        if (ready == 0) fail("silence", "no reply for 30 s");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush_out(c, poll);
            if (!(events[i].events & EPOLLIN)) continue;
            ssize_t n = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (n <= 0) fail("connection", n ? strerror(errno) : "closed by the server");
            take(c, data, (size_t)n);
            if (c->missing) continue;
            last = now();
            if (last >= count_from && last < end) {
                done += pipeline;
                note_time(last - c->began);
            } else if (kind == FILL) {
                done += pipeline;
            }
            if (kind == FILL ? next_key < keys : last < end) send_pipeline(c, poll);
            else busy--;
        }
    }
    if (kind == FILL) seconds = last - begin;
    qsort(times_us, times_count, sizeof *times_us, compare);
    printf("{\"per_second\": %.1f, \"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, \"count\": %ld}\n",
           (double)done / seconds, percentile_ms(0.5), percentile_ms(0.95), percentile_ms(0.99), percentile_ms(1), done);
    return 0;
}
