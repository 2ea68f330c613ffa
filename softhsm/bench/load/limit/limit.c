/*
 * limit: a token's operation behind a bare Unix socket. Frames have a fixed size; there
 * is no JSON, no policy and no log. What it reaches is the most that any process beside
 * the issuer's could reach on this machine.
 *
 *	cc -O2 -o limit limit.c -ldl -pthread
 *	limit server SOCKET ALG MODULE TOKEN PIN LABEL
 *	limit client SOCKET ALG CONNECTIONS
 *
 * A request is eight bytes that come back with the answer, and the input of the
 * operation. An answer is those eight bytes and the output. Any failure ends the program.
 *
 * The server has one thread and one session for each connection: no wake-up of another
 * thread lies between a request and its answer. The client has one thread, and several
 * requests in flight on each connection. Threads and an eventfd in their place halve what
 * one client reaches, and gain nothing with many.
 *
 * The client is a worker of the bench: see the package doc of softhsm/bench/load.
 *
 * It has its own declarations, so that it builds without a PKCS#11 header.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long N; /* CK_ULONG, and every handle, flag and return code */
typedef unsigned char B; /* CK_BYTE and CK_UTF8CHAR */
typedef struct { N mechanism; void *parameter; N length; } mechanism;
typedef struct { N type; void *value; N length; } attribute;
typedef struct { N hash, mgf, salt; } pss_params;
typedef struct { void *create, *destroy, *lock, *unlock; N flags; void *reserved; } init_args;
typedef struct { B label[32], rest[256]; } token_info; /* CK_TOKEN_INFO is shorter */

enum { USER = 1, SERIAL = 4, OS_LOCKING = 2, CLASS = 0, LABEL = 3, PRIVATE_KEY = 3 };
enum { TAG = 8, DEPTH = 128 /* requests in flight on a connection */, BIGGEST = TAG + 512 };

static pss_params pss = {0x250 /* SHA-256 */, 2 /* MGF1 with SHA-256 */, 32};

static const struct alg {
	const char *name;
	mechanism m;
	int input, output, decrypts;
} algs[] = {
	{"ES256", {0x1041, NULL, 0}, 32, 64, 0},
	{"RS256", {0x1, NULL, 0}, 51, 256, 0}, /* a DigestInfo */
	{"PS256", {0xD, &pss, sizeof pss}, 32, 256, 0},
	{"EdDSA", {0x1057, NULL, 0}, 300, 64, 0},
	{"RSA-OAEP-256", {0x3, NULL, 0}, 256, 256, 1}, /* without its padding, as signetd has it done */
};
static const struct alg *alg;

static void die(const char *what, N code)
{
	fprintf(stderr, "limit: %s: 0x%lx\n", what, code);
	exit(1);
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || strlen(path) >= sizeof address->sun_path)
		die("socket", 0);
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, path);
	return fd;
}

/* The server. */

static N (*open_session)(N slot, N flags, void *, void *, N *session);
static N (*start)(N session, mechanism *m, N key);
static N (*finish)(N session, B *in, N n, B *out, N *m);
static N slot, key;

static void *function(void *module, const char *name)
{
	void *f = dlsym(module, name);
	if (!f)
		die(name, 0);
	return f;
}

/* CALL calls a function of the module by its name and the types of its arguments. */
#define CALL(name, types, args) do { \
	N (*f) types = function(module, name); \
	N rv = f args; \
	if (rv) die(name, rv); \
} while (0)

static N session(void)
{
	N s, rv = open_session(slot, SERIAL, NULL, NULL, &s);
	if (rv)
		die("C_OpenSession", rv);
	return s;
}

static void find(void *module, const char *token, const char *pin, const char *label)
{
	init_args init = {.flags = OS_LOCKING};
	CALL("C_Initialize", (void *), (&init));

	N slots[64], n = 64, found = 0;
	CALL("C_GetSlotList", (B, N *, N *), (1, slots, &n));
	for (N i = 0; i < n; i++) {
		token_info info;
		CALL("C_GetTokenInfo", (N, token_info *), (slots[i], &info));
		if (!memcmp(info.label, token, strlen(token)))
			slot = slots[i], found = 1;
	}
	if (!found)
		die("no such token", n);

	N s = session();
	CALL("C_Login", (N, N, B *, N), (s, USER, (B *)pin, strlen(pin)));
	N class = PRIVATE_KEY;
	attribute template[] = {{CLASS, &class, sizeof class}, {LABEL, (void *)label, strlen(label)}};
	CALL("C_FindObjectsInit", (N, attribute *, N), (s, template, 2));
	N keys[2];
	CALL("C_FindObjects", (N, N *, N, N *), (s, keys, 2, &n));
	CALL("C_FindObjectsFinal", (N), (s));
	if (n != 1)
		die("private keys with the label", n);
	key = keys[0];
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg, in = TAG + alg->input, out = TAG + alg->output;
	B *requests = malloc(DEPTH * in), *answers = malloc(DEPTH * out);
	size_t have = 0;
	N s = session();

	for (;;) {
		ssize_t got = read(fd, requests + have, DEPTH * in - have);
		if (got <= 0)
			break;
		have += got;

		/* All that came together is answered with one write. */
		size_t n = have / in;
		for (size_t i = 0; i < n; i++) {
			B *request = requests + i * in, *answer = answers + i * out;
			N length = alg->output, rv;
			memcpy(answer, request, TAG);
			if ((rv = start(s, (mechanism *)&alg->m, key)) || (rv = finish(s, request + TAG, alg->input, answer + TAG, &length)))
				die(alg->name, rv);
			if (length != (N)alg->output)
				die("length of an output", length);
		}
		if (n && write(fd, answers, n * out) != (ssize_t)(n * out))
			break;

		have -= n * in;
		memmove(requests, requests + n * in, have);
	}
	exit(0); /* the client has gone */
}

static void server(const char *path, char **argv)
{
	void *module = dlopen(argv[0], RTLD_NOW);
	if (!module)
		die(dlerror(), 0);
	open_session = function(module, "C_OpenSession");
	start = function(module, alg->decrypts ? "C_DecryptInit" : "C_SignInit");
	finish = function(module, alg->decrypts ? "C_Decrypt" : "C_Sign");
	find(module, argv[1], argv[2], argv[3]);

	struct sockaddr_un address = {0};
	int listener = unix_socket(path, &address);
	if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64))
		die(path, 0);

	/* The bench waits for this line. */
	puts("{}");
	fflush(stdout);

	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;
		if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			die("accept", 0);
	}
}

/* The client. */

static struct connection {
	int fd, first, flying; /* the oldest of the flying requests was sent at sent[first] */
	double sent[DEPTH];
	size_t have;
	B answers[DEPTH * BIGGEST];
} *connections;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void cpu(double *user, double *system)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	*user = r.ru_utime.tv_sec * 1e6 + r.ru_utime.tv_usec;
	*system = r.ru_stime.tv_sec * 1e6 + r.ru_stime.tv_usec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* send_requests writes n requests at once, each with another input. */
static void send_requests(struct connection *c, int n, double t)
{
	static B requests[DEPTH * BIGGEST];
	static uint64_t sequence;
	int size = TAG + alg->input;
	for (int i = 0; i < n; i++) {
		sequence++;
		memcpy(requests + i * size, &sequence, TAG);
		memcpy(requests + (i + 1) * size - sizeof sequence, &sequence, sizeof sequence);
		c->sent[(c->first + c->flying++) % DEPTH] = t;
	}
	if (write(c->fd, requests, n * size) != n * size)
		die("write", 0);
}

/* receive reads answers, records how long they took, and returns their number. */
static int receive(struct connection *c, double *took)
{
	int size = TAG + alg->output;
	ssize_t got = read(c->fd, c->answers + c->have, sizeof c->answers - c->have);
	if (got <= 0)
		die("the server has gone", 0);
	c->have += got;

	int n = c->have / size;
	double t = now();
	for (int i = 0; i < n; i++, c->first = (c->first + 1) % DEPTH)
		took[i] = t - c->sent[c->first];
	c->flying -= n;
	c->have -= n * size;
	memmove(c->answers, c->answers + n * size, c->have);
	return n;
}

static int client(const char *path, char **argv)
{
	enum { MOST = 1 << 22 }; /* answers in a slice: minutes of them */
	static double took[MOST + DEPTH];
	int most = atoi(argv[0]), made = 0, clients, epoll = epoll_create1(0);
	long length;
	connections = calloc(most, sizeof *connections);
	puts("{}");
	fflush(stdout);

	while (scanf("%d %ld", &clients, &length) == 2) {
		int n = clients < most ? clients : most;
		if ((clients + n - 1) / n > DEPTH)
			die("too many clients", clients);
		for (; made < n; made++) {
			struct sockaddr_un address = {0};
			struct epoll_event event = {.events = EPOLLIN, .data.u32 = made};
			int fd = connections[made].fd = unix_socket(path, &address);
			if (connect(fd, (void *)&address, sizeof address) || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
				die("connect", 0);
		}

		double user, system, user_end, system_end, begin = now();
		long ops = 0;
		int flying = clients;
		cpu(&user, &system);
		for (int i = 0; i < n; i++)
			send_requests(&connections[i], clients / n + (i < clients % n), begin);

		while (flying) {
			/* One connection needs no epoll. */
			struct epoll_event events[16] = {{.data.u32 = 0}};
			int ready = n == 1 ? 1 : epoll_wait(epoll, events, 16, -1);
			for (int i = 0; i < ready; i++) {
				struct connection *c = &connections[events[i].data.u32];
				int got = receive(c, took + ops);
				ops += got;
				if (ops < MOST && now() - begin < length) {
					if (got)
						send_requests(c, got, now());
				} else {
					flying -= got;
				}
			}
		}

		double seconds = (now() - begin) / 1e6;
		cpu(&user_end, &system_end);
		qsort(took, ops, sizeof *took, compare);
		printf("{\"ops\":%ld,\"seconds\":%f,\"p50_us\":%f,\"p99_us\":%f,\"user_us\":%f,\"system_us\":%f}\n",
			ops, seconds, took[ops / 2], took[ops * 99 / 100], user_end - user, system_end - system);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 3 && i < sizeof algs / sizeof *algs; i++)
		if (!strcmp(argv[3], algs[i].name))
			alg = &algs[i];
	if (alg && argc == 8 && !strcmp(argv[1], "server"))
		server(argv[2], argv + 4);
	if (alg && argc == 5 && !strcmp(argv[1], "client"))
		return client(argv[2], argv + 4);
	fputs("usage: limit server SOCKET ALG MODULE TOKEN PIN LABEL\n       limit client SOCKET ALG CONNECTIONS\n", stderr);
	return 2;
}
