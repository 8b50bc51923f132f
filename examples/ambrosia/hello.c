/*
 * Hello World as an AMBROSIA program, without any library of AMBROSIA's or ours: written from its
 * published client protocol, to show and to test that such a program runs here unchanged.
 *
 *   cc -O2 -o hello examples/ambrosia/hello.c
 *   hello server   RECEIVE_PORT SEND_PORT            counts and prints the messages that come
 *   hello client   RECEIVE_PORT SEND_PORT [SERVER]   sends three; before the second it waits for Enter
 *   hello keyboard RECEIVE_PORT SEND_PORT [SERVER]   sends each line that is typed (an impulse)
 *
 * The ports are those of the coordinator, as they are registered: it receives on the first one. What
 * the coordinator must keep to is checked, and a breach ends the program with status 2.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RPC = 0, ATTACH_TO = 1, TAKE_CHECKPOINT = 2, RPC_BATCH = 5, CHECKPOINT = 8, INITIAL = 9 };
enum { UPGRADE_TAKE_CHECKPOINT = 10, TAKE_BECOMING_PRIMARY_CHECKPOINT = 11, UPGRADE_SERVICE = 12 };
enum { COUNTED_BATCH = 13, BECOMING_PRIMARY = 15 };
enum { FORK = 1, IMPULSE = 2 };
enum { RECEIVE_MESSAGE = 1, RECEIVE_KEYBOARD_INPUT = 2 };
enum { HEADER = 24, MESSAGE_MAX = 16 << 20 };

typedef struct { uint8_t *at; size_t length, room; } Bytes;
typedef struct { const uint8_t *at, *end; } View;

/* The state of the program, and all that its checkpoint holds: messages handled, one after another. */
static uint64_t handled;
static Bytes texts;

static enum { SERVER, CLIENT, KEYBOARD } role;
static const char *server = "server";
static int to_coordinator, from_coordinator;
static Bytes out;
static int is_recovering, is_primary, has_started, has_sent_all;

static void fail(const char *what) {
    fprintf(stderr, "hello: %s\n", what);
    exit(2);
}

static void add(Bytes *to, const void *what, size_t length) {
    if (to->length + length > to->room) {
        to->room = 2 * (to->length + length);
        if (!(to->at = realloc(to->at, to->room))) fail("out of memory");
    }
    memcpy(to->at + to->length, what, length);
    to->length += length;
}

static void add_byte(Bytes *to, uint8_t byte) { add(to, &byte, 1); }

/* Numbers: zigzag, then seven bits a byte, the lowest first. */
static void add_number(Bytes *to, int64_t number) {
    uint64_t rest = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    for (; rest >= 0x80; rest >>= 7) add_byte(to, (uint8_t)(rest | 0x80));
    add_byte(to, (uint8_t)rest);
}

static uint8_t take_byte(View *from) {
    if (from->at == from->end) fail("a message is cut short");
    return *from->at++;
}

static int64_t take_number(View *from) {
    uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = take_byte(from);
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return (int64_t)(number >> 1) ^ -(int64_t)(number & 1);
    }
    fail("a number is too long");
    return 0;
}

static View take_part(View *from, int64_t length) {
    if (length < 0 || length > from->end - from->at) fail("a message is longer than what holds it");
    View part = {from->at, from->at + length};
    from->at += length;
    return part;
}

/* What goes to the coordinator: messages, each after its size. */

static void say(uint8_t type, const Bytes *data) {
    add_number(&out, 1 + (int64_t)data->length);
    add_byte(&out, type);
    add(&out, data->at, data->length);
}

static void send_rpc(const char *to, int method, uint8_t kind, const void *text, size_t length) {
    Bytes data = {0};
    add_number(&data, (int64_t)strlen(to)); /* an empty name is the program itself */
    add(&data, to, strlen(to));
    add_byte(&data, 0); /* not a return value */
    add_number(&data, method);
    add_byte(&data, kind);
    add(&data, text, length);
    say(RPC, &data);
    free(data.at);
}

static void attach_to(const char *to) {
    Bytes data = {0};
    add(&data, to, strlen(to));
    say(ATTACH_TO, &data);
    free(data.at);
}

static void flush(void) {
    for (size_t done = 0; done < out.length;) {
        ssize_t sent = send(to_coordinator, out.at + done, out.length - done, MSG_NOSIGNAL);
        if (sent <= 0) fail("the coordinator is gone");
        done += (size_t)sent;
    }
    out.length = 0;
}

/* A checkpoint is a message that tells how long it is, and then its bytes as they are. */
static void save(void) {
    Bytes data = {0};
    add_number(&data, (int64_t)(8 + texts.length));
    say(CHECKPOINT, &data);
    free(data.at);
    for (int byte = 0; byte < 8; byte++) add_byte(&out, (uint8_t)(handled >> (8 * byte)));
    add(&out, texts.at, texts.length);
}

static void read_all(void *into, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t got = recv(from_coordinator, (uint8_t *)into + done, length - done, 0);
        if (got <= 0) fail("the coordinator is gone");
        done += (size_t)got;
    }
}

static void load(int64_t length) {
    uint8_t count[8];
    if (length < 8) fail("this checkpoint is not one of this program");
    read_all(count, 8);
    handled = 0;
    for (int byte = 0; byte < 8; byte++) handled |= (uint64_t)count[byte] << (8 * byte);
    texts.length = texts.room = (size_t)length - 8;
    if (!(texts.at = realloc(texts.at, texts.length + 1))) fail("out of memory");
    read_all(texts.at, texts.length);
    is_recovering = 1;
    fprintf(stderr, "hello: loaded a state of %llu messages\n", (unsigned long long)handled);
}

/* The program itself. */

static void handle(View text) {
    int length = (int)(text.end - text.at);
    handled++;
    add(&texts, text.at, (size_t)length);
    add_byte(&texts, 0);
    if (role == SERVER) {
        printf("\n!! SERVER Received message from a client: %.*s\n", length, text.at);
        fflush(stdout);
    }
}

/* Byte by byte, so that nothing of the next line is taken. */
static void wait_for_enter(void) {
    char byte = 0;
    while (read(0, &byte, 1) == 1 && byte != '\n') {
    }
}

/* As in the sample, the first start of the client is a handler that waits for a person. When the client
 * is killed there and started again, this is replayed, and message 1 is not handled twice. */
static void on_first_start(void) {
    has_started = 1;
    if (role == SERVER) return;
    attach_to(server);
    if (role == KEYBOARD) return;
    for (int number = 1; number <= 3; number++) {
        char text[64];
        int length = snprintf(text, sizeof text, "\n!! Client: Hello World %d!", number);
        send_rpc(server, RECEIVE_MESSAGE, FORK, text, (size_t)length);
        if (number > 1) continue;
        flush();
        printf("\n!! Client: Sent message 1.\n");
        printf("\n!! Client: Press enter to continue (will send 2&3)\n");
        fflush(stdout);
        wait_for_enter();
    }
    flush();
    printf("\n!! Client: Press enter to shutdown.\n");
    fflush(stdout);
    has_sent_all = 1;
}

static void become_primary(void) {
    if (is_primary) fail("becoming primary was told twice");
    is_primary = 1;
    fprintf(stderr, "hello: now primary\n");
}

static void handle_rpc(View data) {
    if (take_byte(&data) != 0) fail("a return value, and nothing was called");
    int64_t method = take_number(&data);
    uint8_t kind = take_byte(&data);
    if (method == RECEIVE_MESSAGE && kind == FORK) {
        handle(data);
    } else if (method == RECEIVE_KEYBOARD_INPUT && kind == IMPULSE) {
        handle(data);
        send_rpc(server, RECEIVE_MESSAGE, FORK, data.at, (size_t)(data.end - data.at));
    }
}

static void handle_batch(View data, int has_second_count) {
    int64_t count = take_number(&data);
    if (has_second_count) take_number(&data);
    while (count-- > 0) {
        View message = take_part(&data, take_number(&data));
        if (take_byte(&message) != RPC) fail("a batch holds RPCs");
        handle_rpc(message);
    }
}

static void handle_message(View message, int is_first) {
    uint8_t type = take_byte(&message);
    if (is_first && type != CHECKPOINT && type != TAKE_BECOMING_PRIMARY_CHECKPOINT)
        fail("the first message is a checkpoint or asks for one");
    switch (type) {
    case RPC: handle_rpc(message); break;
    case RPC_BATCH: handle_batch(message, 0); break;
    case COUNTED_BATCH: handle_batch(message, 1); break;
    case TAKE_CHECKPOINT: save(); break;
    case CHECKPOINT: load(take_number(&message)); break;
    case INITIAL:
        if (has_started || message.end - message.at != 5 || memcmp(message.at, "hello", 5))
            fail("the initial message comes once, as it was sent");
        on_first_start();
        break;
    case TAKE_BECOMING_PRIMARY_CHECKPOINT:
        if (!is_recovering) {
            Bytes hello = {0};
            add(&hello, "hello", 5);
            say(INITIAL, &hello);
            free(hello.at);
        }
        save();
        become_primary();
        break;
    case BECOMING_PRIMARY: become_primary(); break;
    case UPGRADE_TAKE_CHECKPOINT:
    case UPGRADE_SERVICE: fail("this program has no newer version"); break;
    default: fail("a message of a type that does not exist");
    }
}

/* One log record: a header, then messages up to its size. */
static void handle_record(void) {
    static int64_t last = -1;
    static int32_t committer;
    static int records;
    uint8_t header[HEADER];
    int32_t fields[2];
    int64_t number;
    read_all(header, HEADER);
    memcpy(fields, header, 8); /* little endian, as this machine is */
    memcpy(&number, header + 16, 8);
    if (fields[1] < HEADER || fields[1] > HEADER + MESSAGE_MAX) fail("a record has no such size");
    if (records++ && fields[0] != committer) fail("another committer");
    committer = fields[0];
    if (number >= 0 && last >= 0 && number != last + 1) fail("a record is missing");
    if (number >= 0) last = number;
    size_t length = (size_t)fields[1] - HEADER;
    uint8_t *payload = malloc(length + 1);
    if (!payload) fail("out of memory");
    read_all(payload, length);
    View rest = {payload, payload + length};
    for (int count = 0; rest.at < rest.end; count++) {
        if (count > 0 && records == 1) fail("the first record holds one message");
        handle_message(take_part(&rest, take_number(&rest)), records == 1);
    }
    free(payload);
    flush();
}

/* Each line that is typed is an impulse to the program itself: its handler sends it on. */
static void read_keyboard(struct pollfd *keyboard) {
    static Bytes line;
    uint8_t bytes[4096];
    ssize_t got = read(0, bytes, sizeof bytes);
    if (got <= 0) keyboard->fd = -1;
    if (got > 0 && role == CLIENT) exit(0);
    for (ssize_t at = 0; at < got; at++) {
        if (bytes[at] != '\n') {
            add_byte(&line, bytes[at]);
            continue;
        }
        send_rpc("", RECEIVE_KEYBOARD_INPUT, IMPULSE, line.at, line.length);
        line.length = 0;
    }
    flush();
}

static int connect_to(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (;;) {
        int on = 1, link = socket(AF_INET, SOCK_STREAM, 0);
        if (link < 0) fail("no socket");
        setsockopt(link, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(link, (struct sockaddr *)&address, sizeof address) == 0) return link;
        close(link);
        usleep(100 * 1000);
    }
}

int main(int count, char **words) {
    const char *names[] = {"server", "client", "keyboard"};
    int which = 0;
    while (which < 3 && (count < 4 || strcmp(words[1], names[which]))) which++;
    if (which == 3 || count > 5) {
        fprintf(stderr, "usage: hello server|client|keyboard RECEIVE_PORT SEND_PORT [SERVER]\n");
        return 1;
    }
    role = which == 0 ? SERVER : which == 1 ? CLIENT : KEYBOARD;
    if (count == 5) server = words[4];
    /* In this order: the coordinator takes them so, and two programs cannot get one port each. */
    to_coordinator = connect_to(words[2]);
    from_coordinator = connect_to(words[3]);
    struct pollfd ready[] = {{.fd = from_coordinator, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    for (int listens = 0;;) {
        if (!listens && (role == KEYBOARD ? is_primary : has_sent_all)) listens = 1, ready[1].fd = 0;
        if (poll(ready, 2, -1) < 0 && errno != EINTR) fail("poll");
        if (ready[1].fd >= 0 && ready[1].revents) read_keyboard(&ready[1]);
        if (ready[0].revents) handle_record();
    }
}
