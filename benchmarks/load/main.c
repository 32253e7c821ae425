/* A closed loop of commands over many connections, for the comparisons of benchmarks/: light, so that the servers have
   the machine, and the same for all of them.

       load [-c CLIENTS] [-p PIPELINE] [-s SECONDS | -n COUNT] [-d VALUE_BYTES] [-k KEYS] [-f FIRST] COMMAND PORT...

   COMMAND   set        SET of a random one of the first KEYS keys
             set-wait   the same, and `WAIT 1 0` after each pipeline: at Redis a write is then at two servers
             get        GET of a random one
             put        as set, at etcd (gRPC)
   -n COUNT  not for some seconds, but COUNT keys, once each, from the key number FIRST on; with set and put

   Each connection sends a pipeline; when all answers are there it sends the next. Connections are dealt to the ports in
   turn. With SECONDS, a tenth of them and at most half a second go before, and are not counted; SIGTERM ends them early.

   Keys are numbers from 0 on, which the key itself scatters: the order in which they are written is not theirs. No value is
   written twice: it begins with the number of this run (16 hexadecimal digits), a colon, and the number of the write in
   it (12 digits), a colon. When this program ends with 0, every write was acknowledged: those before the counted ones too.

   Prints one JSON object. `acknowledged`: all writes; `per_second`: the counted commands (WAIT is none); times of a
   pipeline in milliseconds; `percentiles_ms`: of 0, 1, 2 ... 99, 99.5, 99.9 and 100 percent.
   Exit code 1, with the answer, where one is an error, or a WAIT found nobody. */

#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 16
#define READ_BYTES (256 * 1024)
#define VALUE_BYTES_MIN 32
#define ANSWERS_MAX 256            /* bytes that a connection sends unasked, waiting to be sent */
#define ETCD_UNDER_WAY_BYTES_MAX 32768
#define ETCD_VALUE_BYTES_MAX 16000  /* a frame of HTTP/2 */
#define SILENCE_MS 60000
#define SCATTER 387420489L         /* 3 to the 18th has no divisor in common with KEY_SPACE: no two numbers give one key */
#define KEY_SPACE 1000000000000L

const char *value;
long value_bytes = 64;

static const struct protocol *protocol = &resp;
static int poll_fd, has_wait, is_get;
static long pipeline = 1, keys = 100000, count, next_key, writes;
static uint64_t run, random_state;
static uint32_t *times_us;
static size_t times_count, times_size;
static volatile sig_atomic_t is_over;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void fail(const char *what, const char *detail) {
    fprintf(stderr, "load: %s: %s\n", what, detail);
    exit(1);
}

static long random_key(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (long)(random_state % (uint64_t)keys);
}

static void note_time(double seconds) {
    if (times_count == times_size) {
        times_size = times_size ? 2 * times_size : 1 << 16;
        times_us = realloc(times_us, times_size * sizeof *times_us);
        if (!times_us) fail("memory", "none");
    }
    times_us[times_count++] = (uint32_t)(seconds * 1e6);
}

static void flush_out(struct connection *c) {
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, c->out + c->sent, c->to_send - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) fail("send", strerror(errno));
        if (n < 0) break;
        c->sent += (size_t)n;
    }
    if (c->waits_to_send != (c->sent < c->to_send)) {
        c->waits_to_send = c->sent < c->to_send;
        struct epoll_event event = {.events = EPOLLIN | (c->waits_to_send ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event);
    }
}

void send_now(struct connection *c, const char *data, size_t size) {
    static size_t unasked;
    if (c->sent == c->to_send) c->sent = c->to_send = unasked = 0;
    if ((unasked += size) > ANSWERS_MAX) fail("send", "the server asks and does not read");
    memcpy(c->out + c->to_send, data, size);
    c->to_send += size;
    flush_out(c);
}

static char *put_command(struct connection *c, char *at) {
    char key[KEY_BYTES + 8], mark[64];
    long number = count ? next_key++ : random_key();
    snprintf(key, sizeof key, "key:%012ld", number * SCATTER % KEY_SPACE);
    if (is_get) return protocol->get(c, at, key);
    memcpy((char *)value, mark, (size_t)snprintf(mark, sizeof mark, "%016llx:%012ld:", (unsigned long long)run, writes++));
    return protocol->set(c, at, key);
}

static void send_pipeline(struct connection *c, char *at) {
    c->missing = count && next_key + pipeline > keys ? keys - next_key : pipeline;
    for (long i = 0, commands = c->missing; i < commands; i++) at = put_command(c, at);
    if (has_wait) {
        at += sprintf(at, WAIT_COMMAND);
        c->missing++;
    }
    c->sent = 0;
    c->to_send = (size_t)(at - c->out);
    c->began = now();
    flush_out(c);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static struct connection *make_connection(int port) {
    struct connection *c = calloc(1, sizeof *c);
    size_t bytes = (size_t)pipeline * ((size_t)value_bytes + protocol->request_bytes_max);
    c->fd = dial(port);
    c->out = malloc(bytes + sizeof WAIT_COMMAND + 2 * ANSWERS_MAX);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
    return c;
}

static int has_more(double time, double end) {
    return count ? next_key < keys : time < end && !is_over;
}

/* Until all that was sent is answered. Returns how many commands were counted; `*last`: when the last answer came. */
static long answer_all(long busy, double count_from, double end, double *last) {
    static char data[READ_BYTES];
    struct epoll_event events[256];
    long done = 0;
    while (busy) {
        int ready = epoll_wait(poll_fd, events, 256, SILENCE_MS);
        if (ready == 0) fail("silence", "no answer for a minute");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush_out(c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP))) continue;
            ssize_t n = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (n <= 0) fail("connection", n ? strerror(errno) : "closed by the server");
            protocol->take(c, data, (size_t)n);
            if (c->missing || !c->began) continue;
            *last = now();
            if (*last >= count_from && *last < end) {
                done += pipeline;
                note_time(*last - c->began);
            }
            if (has_more(*last, end)) send_pipeline(c, c->out);
            else c->began = 0, busy--;
        }
    }
    return done;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(double percent) {
    size_t at = (size_t)(percent / 100 * (double)times_count);
    return times_count ? times_us[at < times_count ? at : times_count - 1] / 1000.0 : 0;
}

static void print_result(long done, double seconds) {
    qsort(times_us, times_count, sizeof *times_us, compare);
    printf("{\"run\": \"%016llx\", \"acknowledged\": %ld, \"per_second\": %.1f, \"seconds\": %.4f, ",
           (unsigned long long)run, writes, (double)done / seconds, seconds);
    printf("\"p50_ms\": %.3f, \"p95_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"percentiles_ms\": [",
           percentile_ms(50), percentile_ms(95), percentile_ms(99), percentile_ms(100));
    for (int percent = 0; percent < 100; percent++) printf("%.3f, ", percentile_ms(percent));
    printf("%.3f, %.3f, %.3f]}\n", percentile_ms(99.5), percentile_ms(99.9), percentile_ms(100));
}

static void read_command(const char *word) {
    has_wait = !strcmp(word, "set-wait");
    is_get = !strcmp(word, "get");
    if (!strcmp(word, "put")) protocol = &etcd;
    else if (!has_wait && !is_get && strcmp(word, "set")) fail("usage", "a command is one of set, set-wait, get, put");
}

static void be_over(int number) {
    (void)number;
    is_over = 1;
}

int main(int words_count, char **words) {
    long clients = 1, first = 0;
    double seconds = 1;
    for (int option; (option = getopt(words_count, words, "c:p:s:n:d:k:f:")) != -1;) {
        if (option == 'c') clients = atol(optarg);
        if (option == 'p') pipeline = atol(optarg);
        if (option == 's') seconds = atof(optarg);
        if (option == 'n') count = atol(optarg);
        if (option == 'd') value_bytes = atol(optarg);
        if (option == 'k') keys = atol(optarg);
        if (option == 'f') first = atol(optarg);
        if (option == '?') fail("usage", "see the head of main.c");
    }
    if (words_count - optind < 2 || words_count - optind > PORTS_MAX) fail("usage", "a command and ports are wanted");
    read_command(words[optind++]);
    if (clients < 1 || pipeline < 1 || keys < 1 || count < 0 || (count && is_get)) fail("usage", "a number is out of range");
    if (value_bytes < VALUE_BYTES_MIN) fail("usage", "values have 32 bytes or more");
    if (protocol == &etcd && (value_bytes > ETCD_VALUE_BYTES_MAX || pipeline * value_bytes > ETCD_UNDER_WAY_BYTES_MAX))
        fail("usage", "more bytes under way than this client of etcd can send");
    if (getrandom(&run, sizeof run, 0) != sizeof run) fail("random", strerror(errno));
    random_state = run | 1;
    next_key = first;
    if (count) keys = first + count;
    value = memset(malloc((size_t)value_bytes), 'x', (size_t)value_bytes);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = be_over}, NULL);

    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct connection **all = calloc((size_t)clients, sizeof *all);
    for (long i = 0; i < clients; i++) all[i] = make_connection(atoi(words[optind + i % (words_count - optind)]));
    double begin = now(), before = seconds / 10 < 0.5 ? seconds / 10 : 0.5;
    double count_from = count ? begin : begin + before, end = count ? 1e300 : count_from + seconds, last = begin;
    long busy = 0;
    for (; busy < clients && has_more(begin, end); busy++) send_pipeline(all[busy], protocol->greet(all[busy]->out));
    long done = answer_all(busy, count_from, end, &last);
    /* The last pipeline of a count may be shorter; SIGTERM may have come before the end. */
    print_result(count ? count : done, (count || last < end ? last : end) - count_from);
    return 0;
}
