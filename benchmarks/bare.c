// bare: an HTTP server that does nothing, in one epoll loop: the noise of this machine.
//
// What the kernel, the hypervisor, the neighbours and the generator itself do to latency shows here
// without any server's share. A p99.9 of ours below this one's is luck. It answers every request
// with ANSWER_BYTES of body, on 127.0.0.1, until it is killed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS_MAX = 2048, REQUEST_BYTES_MAX = 65536, ANSWER_BYTES_MAX = 65536, EVENTS_MAX = 256 };

struct connection {
    size_t filled;
    char request[REQUEST_BYTES_MAX + 1];
};

static struct connection *connections[FDS_MAX];  // by file descriptor
static char answer[ANSWER_BYTES_MAX + 256];
static size_t answer_bytes;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static int listen_on(uint16_t port)
{
    const struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&here, sizeof here) || listen(fd, FDS_MAX))
        die("listen");
    return fd;
}

static void watch(int poller, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

static void greet(int poller, int listener)
{
    const int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0 || fd >= FDS_MAX)
        die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[fd] = calloc(1, sizeof **connections);
    if (!connections[fd])
        die("calloc");
    watch(poller, fd);
}

static void serve(int fd)
{
    struct connection *connection = connections[fd];
    const ssize_t got = recv(fd, connection->request + connection->filled,
                             REQUEST_BYTES_MAX - connection->filled, 0);
    if (got <= 0) {
        close(fd);
        free(connection);
        return;
    }
    connection->filled += (size_t)got;
    connection->request[connection->filled] = 0;
    const char *end = strstr(connection->request, "\r\n\r\n");
    const char *length = strcasestr(connection->request, "\ncontent-length:");
    const size_t body = length && length < end ? strtoul(length + 16, NULL, 10) : 0;
    if (!end || connection->filled < (size_t)(end - connection->request) + 4 + body)
        return;
    connection->filled = 0;  // nobody sends a second request before the answer
    if (send(fd, answer, answer_bytes, MSG_NOSIGNAL) != (ssize_t)answer_bytes)
        die("send");
}

int main(int argc, char **argv)
{
    const unsigned long port = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    const unsigned long body = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (port < 1 || port > 65535 || body > ANSWER_BYTES_MAX) {
        fprintf(stderr, "usage: bare PORT ANSWER_BYTES\n");
        return 2;
    }
    answer_bytes = (size_t)snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %lu\r\n\r\n", body);
    memset(answer + answer_bytes, 'x', body);
    answer_bytes += body;
    const int poller = epoll_create1(0), listener = listen_on((uint16_t)port);
    watch(poller, listener);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        const int count = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                greet(poller, listener);
            else
                serve(events[i].data.fd);
        }
    }
}
