// olg: open-loop load over HTTP/1.1 keep-alive connections, one thread, on this machine only.
//
// A request has an INTENDED send time, drawn from a Poisson process that knows nothing about the
// server, and latency counts from there, also while it waits here for a free connection: a server
// that stalls for 400 ms is charged for every request that should have been sent meanwhile. A
// closed loop (`-r 0`) leaves them all out, and is here only to find the highest rate.
//
// Every request has a record, touched before the start: percentiles are exact, nothing is allocated
// while time is measured, `-n` bounds the memory. A request that was never answered counts with the
// age it had when the run was given up: a lower bound.
//
// Requests are sent in turn from a file of `LENGTH\n` and LENGTH bytes, repeated. Answers must have
// a Content-Length (or be 204 or 304). One JSON object goes to stdout, the records (three uint64
// each) to the file named by `-o`.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 1024,         // a few hundred already saturate two cores
    ANSWER_BYTES_MAX = 256 * 1024,  // fifty placements with markup; longer counts as a fault
    REQUESTS_MAX = 64 * 1024,       // variants in the file
    REQUESTS_BYTES_MAX = 128 << 20,
    EVENTS_MAX = 256,
    RUN_MAX = 100 * 1000 * 1000,  // requests in a run: 2.4 GB of records
    DRAIN_S = 2,                  // how long after the end answers are waited for
    TICK_NS = 1000 * 1000,        // the longest sleep, so that the end is never missed by more
};
#define NS_PER_S UINT64_C(1000000000)

struct options {
    const char *requests_path, *records_path;
    uint16_t port;
    double rate, seconds, warm_up_seconds;
    size_t requests_max, connections;
    uint64_t seed;
};

struct request {
    const char *bytes;
    size_t length;
};

// In ns of CLOCK_MONOTONIC, as Python's time.monotonic_ns(). 0: has not happened.
struct record {
    uint64_t intended, sent, answered;
};

struct connection {
    int fd;
    bool busy;
    size_t record, filled;
    char answer[ANSWER_BYTES_MAX + 1];
};

static struct options options = {.rate = -1, .connections = 64, .seed = 1};
static struct request requests[REQUESTS_MAX];
static size_t request_count, idle_count, in_flight;
static struct record *records;
static size_t arrived, sent;  // records [sent, arrived) wait for a connection
static struct connection *connections;
static size_t idle[CONNECTIONS_MAX];
static size_t answered, body_bytes, errors, reconnects;
static size_t statuses[6];  // by first digit; 0 holds what is no status
static volatile sig_atomic_t interrupted;  // SIGINT ends the window: answers are still waited for
static int poller;
static uint64_t start, window_start, window_end;
static double next_arrival;  // ns since start; a double holds 104 days of them exactly

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "olg: %s\n", what);
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

// SplitMix64 as a number in (0, 1], whose logarithm is finite.
static double uniform(void)
{
    uint64_t z = options.seed += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)((z >> 11) + 1) * 0x1p-53;
}

// -- before the run -------------------------------------------------------------------------------

static double number(const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        die("an option is not a number or is out of bounds");
    return value;
}

static void read_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "p:q:r:d:n:w:c:S:o:")) != -1) {
        switch (option) {
        case 'p': options.port = (uint16_t)number(optarg, 1, 65535); break;
        case 'q': options.requests_path = optarg; break;
        case 'r': options.rate = number(optarg, 0, 1e7); break;
        case 'd': options.seconds = number(optarg, 0.01, 3600); break;
        case 'n': options.requests_max = (size_t)number(optarg, 1, RUN_MAX); break;
        case 'w': options.warm_up_seconds = number(optarg, 0, 600); break;
        case 'c': options.connections = (size_t)number(optarg, 1, CONNECTIONS_MAX); break;
        case 'S': options.seed = (uint64_t)number(optarg, 0, 0x1p53); break;
        case 'o': options.records_path = optarg; break;
        default: exit(2);
        }
    }
    // Neither the length nor the number has a default: a load without an end is an accident.
    if (!options.port || !options.requests_path || options.rate < 0 || !options.seconds ||
        !options.requests_max)
        die("usage: -p PORT -q REQUESTS -r RATE (0: closed loop) -d SECONDS -n REQUESTS_MAX\n"
            "       [-w WARM_UP_SECONDS] [-c CONNECTIONS] [-S SEED] [-o RECORDS]");
}

static void read_requests(void)
{
    static char bytes[REQUESTS_BYTES_MAX + 1];  // the last one stays 0: strtoull stops there
    FILE *file = fopen(options.requests_path, "rb");
    if (!file)
        die("can't open the requests");
    const size_t size = fread(bytes, 1, REQUESTS_BYTES_MAX, file);
    fclose(file);
    for (char *at = bytes, *end = bytes + size; at < end;) {
        char *body;
        uint64_t length = strtoull(at, &body, 10);
        if (body == at || *body != '\n' || length > (uint64_t)(end - body - 1) ||
            request_count == REQUESTS_MAX)
            die("the requests are too many, or not LENGTH, newline, bytes");
        requests[request_count++] = (struct request){body + 1, length};
        at = body + 1 + length;
    }
    if (!request_count)
        die("no requests");
}

static void dial(struct connection *connection)
{
    // Load on somebody else's machine is an attack: there is no option that names another one.
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(options.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    // Blocking: on loopback a connect is over at once, or refused and the run is void.
    if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof peer) ||
        fcntl(fd, F_SETFL, O_NONBLOCK))
        die("can't connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    connection->fd = fd;
}

static void *zeroed(size_t size)
{
    void *const memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        die("out of memory");
    return memory;
}

static void prepare(void)
{
    prctl(PR_SET_TIMERSLACK, 1);  // the default lets a sleep run 50 us over
    records = zeroed(options.requests_max * sizeof *records);
    connections = zeroed(options.connections * sizeof *connections);
    poller = epoll_create1(0);
    for (size_t i = 0; i < options.connections; i++) {
        dial(&connections[i]);
        idle[idle_count++] = i;
    }
    start = now_ns();
    window_start = start + (uint64_t)(options.warm_up_seconds * 1e9);
    window_end = window_start + (uint64_t)(options.seconds * 1e9);
}

// -- the run --------------------------------------------------------------------------------------

static void release(struct connection *connection)
{
    if (connection->busy) {
        connection->busy = false;
        in_flight--;
        idle[idle_count++] = (size_t)(connection - connections);
    }
}

// The server closed, or sent what we can't read: the request on its way counts as lost, and a fresh
// connection makes sure that no late answer is taken for another request's.
static void reconnect(struct connection *connection)
{
    errors += connection->busy;
    reconnects++;
    close(connection->fd);
    dial(connection);
    release(connection);
}

static void arrive(uint64_t now)
{
    if (options.rate == 0) {
        while (now < window_end && arrived < options.requests_max && arrived - sent < idle_count)
            records[arrived++].intended = now;
        return;
    }
    const double until = (double)((now < window_end ? now : window_end) - start);
    while (next_arrival < until && arrived < options.requests_max) {
        records[arrived++].intended = start + (uint64_t)next_arrival;
        next_arrival -= log(uniform()) * 1e9 / options.rate;
    }
}

static void send_waiting(void)
{
    while (idle_count && sent < arrived) {
        struct connection *connection = &connections[idle[--idle_count]];
        const struct request *request = &requests[sent % request_count];
        connection->record = sent++;
        connection->filled = 0;
        connection->busy = true;
        in_flight++;
        records[connection->record].sent = now_ns();
        // A request fits an empty socket buffer: less than all of it means a broken connection.
        if (send(connection->fd, request->bytes, request->length, MSG_NOSIGNAL) !=
            (ssize_t)request->length)
            reconnect(connection);
    }
}

// 1: the answer is whole, 0: more bytes must come, -1: not an answer we can read.
static int parse(struct connection *connection, size_t more, int *status, size_t *length)
{
    char *bytes = connection->answer;
    bytes[connection->filled += more] = 0;
    char *end = strstr(bytes, "\r\n\r\n");
    if (!end)
        return 0;  // a full buffer makes the next recv return 0, as a closed connection does
    if (strncmp(bytes, "HTTP/1.1 ", 9))
        return -1;
    *status = (int)strtol(bytes + 9, NULL, 10);
    const size_t head_bytes = (size_t)(end - bytes) + 4;
    bool sized = *status == 204 || *status == 304;
    for (char *line = strstr(bytes, "\r\n"); line < end; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "content-length:", 15))
            continue;
        *length = strtoull(line + 17, NULL, 10);
        sized = true;
    }
    if (!sized || connection->filled > head_bytes + *length)
        return -1;
    return connection->filled == head_bytes + *length;
}

static void receive(struct connection *connection)
{
    ssize_t got = recv(connection->fd, connection->answer + connection->filled,
                       ANSWER_BYTES_MAX - connection->filled, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int status = 0, whole = -1;
    size_t length = 0;
    if (got > 0 && connection->busy)
        whole = parse(connection, (size_t)got, &status, &length);
    if (whole < 0)
        reconnect(connection);
    if (whole <= 0)
        return;
    records[connection->record].answered = now_ns();
    answered++;
    body_bytes += length;
    statuses[status >= 100 && status < 600 ? status / 100 : 0]++;
    release(connection);
}

static void wait_and_receive(void)
{
    struct epoll_event events[EVENTS_MAX];
    double sleep_ns = TICK_NS;
    if (options.rate > 0 && arrived < options.requests_max)
        sleep_ns = fmax(0, fmin(sleep_ns, next_arrival - (double)(now_ns() - start)));
    const int count = epoll_pwait2(poller, events, EVENTS_MAX,
                                   &(struct timespec){.tv_nsec = (long)sleep_ns}, NULL);
    for (int i = 0; i < count; i++)
        receive(events[i].data.ptr);
}

static void interrupt(int number)
{
    interrupted = number;
}

static bool over(uint64_t now)
{
    if (interrupted && now < window_end)
        window_end = now;
    if (now < window_end && arrived < options.requests_max)
        return false;
    return (in_flight == 0 && sent == arrived) || now >= window_end + DRAIN_S * NS_PER_S;
}

// -- after the run --------------------------------------------------------------------------------

static int compare(const void *left, const void *right)
{
    return (*(const double *)left > *(const double *)right) -
           (*(const double *)left < *(const double *)right);
}

static void print_percentiles(const char *name, double *values, size_t count)
{
    static const char *const names[] = {"p50", "p90", "p99", "p99_9", "max"};
    static const double shares[] = {0.5, 0.9, 0.99, 0.999, 1};
    qsort(values, count, sizeof *values, compare);
    printf("\"%s\":{", name);
    for (int i = 0; i < 5; i++) {
        // Nearest rank: the smallest value that at least this share of all do not exceed.
        const size_t rank = (size_t)ceil((double)count * shares[i]);
        printf("%s\"%s\":%.4f", i ? "," : "", names[i], rank ? values[rank - 1] : 0);
    }
    printf("},");
}

static void report(uint64_t stopped)
{
    double *latency_ms = zeroed((arrived + 1) * sizeof *latency_ms);
    double *service_ms = zeroed((arrived + 1) * sizeof *service_ms);
    size_t window = 0, answered_in_window = 0;
    for (const struct record *record = records; record < records + arrived; record++) {
        const uint64_t end = record->answered ? record->answered : stopped;
        if (record->answered >= window_start && record->answered < window_end)
            answered_in_window++;
        if (record->intended < window_start)
            continue;
        latency_ms[window] = (double)(end - record->intended) / 1e6;
        service_ms[window++] = record->sent ? (double)(end - record->sent) / 1e6 : 0;
    }
    // A run that met `-n` ended before its time.
    const uint64_t end = stopped < window_end ? stopped : window_end;
    const double seconds = fmax(1e-9, ((double)end - (double)window_start) / 1e9);
    printf("{\"rate_asked\":%.1f,\"rate\":%.1f,\"seconds\":%.3f,\"window\":%zu,", options.rate,
           (double)answered_in_window / seconds, seconds, window);
    printf("\"sent\":%zu,\"answered\":%zu,\"unanswered\":%zu,\"errors\":%zu,", sent, answered,
           arrived - answered, errors);
    printf("\"reconnects\":%zu,\"body_bytes\":%zu,", reconnects, body_bytes);
    printf("\"status\":{\"2xx\":%zu,\"3xx\":%zu,\"4xx\":%zu,\"5xx\":%zu,\"other\":%zu},",
           statuses[2], statuses[3], statuses[4], statuses[5], statuses[0] + statuses[1]);
    print_percentiles("latency_ms", latency_ms, window);
    print_percentiles("service_ms", service_ms, window);
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("\"client_cpu_s\":%.3f}\n", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    read_requests();
    prepare();
    signal(SIGINT, interrupt);
    uint64_t now;
    while (!over(now = now_ns())) {
        arrive(now);
        send_waiting();
        wait_and_receive();
    }
    report(now);
    if (options.records_path) {
        FILE *file = fopen(options.records_path, "wb");
        if (!file || fwrite(records, sizeof *records, arrived, file) != arrived || fclose(file))
            die("can't write the records");
    }
    return 0;
}
