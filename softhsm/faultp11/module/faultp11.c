/*
 * faultp11: a PKCS#11 v2.40 module that forwards to the one in FAULTP11_MODULE
 * and fails where the text file FAULTP11_CONTROL says so. It counts calls in the
 * text file FAULTP11_STATS. README.md describes the control file.
 *
 *	cc -shared -fPIC -O2 -o faultp11.so faultp11.c -ldl -pthread
 *
 * It has its own declarations, so that it builds without a PKCS#11 header. They
 * are right where the structures of PKCS#11 are not packed: all but Windows.
 *
 * A call takes the lock for a moment at its start and at its end. It is not held
 * during a fault or in the real module, except in C_Logout for the effect logout.
 * Counters in the stats file change by compare-and-swap, so that several
 * processes may share it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

typedef unsigned long N; /* CK_ULONG, and every handle, flag and answer */
typedef unsigned char B; /* CK_BYTE, CK_BBOOL and CK_UTF8CHAR */

typedef struct { N mechanism; void *parameter; N length; } M;
typedef struct { void *create, *destroy, *lock, *unlock; N flags; char *reserved; } init_args;
typedef struct { B label[32], manufacturer[32], model[16], serial[16]; N flags, max_sessions, sessions, max_rw, rw; } token_info;

enum { OK = 0, GENERAL_ERROR = 5, ARGUMENTS_BAD = 7, DEVICE_ERROR = 0x30, SESSION_COUNT = 0xB1, BUFFER_TOO_SMALL = 0x150 };

/*
 * The functions, in the order of the function list (PKCS#11 v2.40, section 5):
 *	X is written out below;        P has no session;
 *	S has a session first;         I has a mechanism after the session;
 *	E ends an operation;           O ends one, with an output and its length;
 *	U has an output and its length, and ends no operation.
 */
#define FUNCTIONS(X, P, S, I, E, O, U) \
	X(C_Initialize, (void *args), (args)) X(C_Finalize, (void *reserved), (reserved)) P(C_GetInfo, (void *info), (info)) \
	X(C_GetFunctionList, (void *list), (list)) X(C_GetSlotList, (B present, N *slots, N *n), (present, slots, n)) \
	P(C_GetSlotInfo, (N slot, void *info), (slot, info)) X(C_GetTokenInfo, (N slot, token_info *info), (slot, info)) \
	P(C_GetMechanismList, (N slot, N *list, N *n), (slot, list, n)) P(C_GetMechanismInfo, (N slot, N type, void *info), (slot, type, info)) \
	P(C_InitToken, (N slot, B *pin, N n, B *label), (slot, pin, n, label)) S(C_InitPIN, (N s, B *pin, N n), (s, pin, n)) \
	S(C_SetPIN, (N s, B *old, N n, B *pin, N m), (s, old, n, pin, m)) \
	X(C_OpenSession, (N slot, N flags, void *app, void *notify, N *s), (slot, flags, app, notify, s)) X(C_CloseSession, (N s), (s)) \
	X(C_CloseAllSessions, (N slot), (slot)) S(C_GetSessionInfo, (N s, void *info), (s, info)) U(C_GetOperationState, (N s, B *out, N *n), (s, out, n)) \
	S(C_SetOperationState, (N s, B *state, N n, N enc, N auth), (s, state, n, enc, auth)) S(C_Login, (N s, N user, B *pin, N n), (s, user, pin, n)) \
	X(C_Logout, (N s), (s)) S(C_CreateObject, (N s, void *t, N n, N *object), (s, t, n, object)) \
	S(C_CopyObject, (N s, N from, void *t, N n, N *object), (s, from, t, n, object)) S(C_DestroyObject, (N s, N object), (s, object)) \
	S(C_GetObjectSize, (N s, N object, N *size), (s, object, size)) S(C_GetAttributeValue, (N s, N object, void *t, N n), (s, object, t, n)) \
	S(C_SetAttributeValue, (N s, N object, void *t, N n), (s, object, t, n)) S(C_FindObjectsInit, (N s, void *t, N n), (s, t, n)) \
	S(C_FindObjects, (N s, N *objects, N max, N *n), (s, objects, max, n)) S(C_FindObjectsFinal, (N s), (s)) I(C_EncryptInit, (N s, M *m, N key), (s, m, key)) \
	O(C_Encrypt, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) U(C_EncryptUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	O(C_EncryptFinal, (N s, B *out, N *n), (s, out, n)) I(C_DecryptInit, (N s, M *m, N key), (s, m, key)) \
	O(C_Decrypt, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) U(C_DecryptUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	O(C_DecryptFinal, (N s, B *out, N *n), (s, out, n)) I(C_DigestInit, (N s, M *m), (s, m)) O(C_Digest, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	S(C_DigestUpdate, (N s, B *in, N len), (s, in, len)) S(C_DigestKey, (N s, N key), (s, key)) O(C_DigestFinal, (N s, B *out, N *n), (s, out, n)) \
	I(C_SignInit, (N s, M *m, N key), (s, m, key)) O(C_Sign, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	S(C_SignUpdate, (N s, B *in, N len), (s, in, len)) O(C_SignFinal, (N s, B *out, N *n), (s, out, n)) I(C_SignRecoverInit, (N s, M *m, N key), (s, m, key)) \
	O(C_SignRecover, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) I(C_VerifyInit, (N s, M *m, N key), (s, m, key)) \
	E(C_Verify, (N s, B *in, N len, B *sig, N n), (s, in, len, sig, n)) S(C_VerifyUpdate, (N s, B *in, N len), (s, in, len)) \
	E(C_VerifyFinal, (N s, B *sig, N n), (s, sig, n)) I(C_VerifyRecoverInit, (N s, M *m, N key), (s, m, key)) \
	O(C_VerifyRecover, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) U(C_DigestEncryptUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	U(C_DecryptDigestUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	U(C_SignEncryptUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) \
	U(C_DecryptVerifyUpdate, (N s, B *in, N len, B *out, N *n), (s, in, len, out, n)) I(C_GenerateKey, (N s, M *m, void *t, N n, N *key), (s, m, t, n, key)) \
	I(C_GenerateKeyPair, (N s, M *m, void *pub, N n, void *priv, N k, N *a, N *b), (s, m, pub, n, priv, k, a, b)) \
	U(C_WrapKey, (N s, M *m, N by, N key, B *out, N *n), (s, m, by, key, out, n)) \
	I(C_UnwrapKey, (N s, M *m, N by, B *in, N len, void *t, N n, N *key), (s, m, by, in, len, t, n, key)) \
	I(C_DeriveKey, (N s, M *m, N base, void *t, N n, N *key), (s, m, base, t, n, key)) S(C_SeedRandom, (N s, B *seed, N n), (s, seed, n)) \
	S(C_GenerateRandom, (N s, B *out, N n), (s, out, n)) S(C_GetFunctionStatus, (N s), (s)) S(C_CancelFunction, (N s), (s)) \
	P(C_WaitForSlotEvent, (N flags, N *slot, void *reserved), (flags, slot, reserved))

#define INDEX(name, params, args) F_##name,
enum { FUNCTIONS(INDEX, INDEX, INDEX, INDEX, INDEX, INDEX, INDEX) FUNCTION_COUNT };
/* What the stats file counts beside the functions. */
enum { SESSIONS = FUNCTION_COUNT, LEFT_OPEN, BUSY_CLOSE, BUSY_LOGOUT, BUSY_FINALIZE, SHARED_SESSION, CONTROL, CONTROL_ERRORS, RECORDS };

#define NAME(name, params, args) #name,
static const char *const names[RECORDS] = {
	FUNCTIONS(NAME, NAME, NAME, NAME, NAME, NAME, NAME)
	"sessions", "left-open", "busy-close", "busy-logout", "busy-finalize", "shared-session", "control", "control-errors",
};

#define MEMBER(name, params, args) N (*name) params;
typedef struct { B major, minor; FUNCTIONS(MEMBER, MEMBER, MEMBER, MEMBER, MEMBER, MEMBER, MEMBER) } function_list;

typedef struct { const char *name; N value; } word;

static const word answers[] = {
	{"OK", 0}, {"CANCEL", 1}, {"HOST_MEMORY", 2}, {"SLOT_ID_INVALID", 3}, {"GENERAL_ERROR", 5}, {"FUNCTION_FAILED", 6}, {"ARGUMENTS_BAD", 7},
	{"NO_EVENT", 8}, {"CANT_LOCK", 0xA}, {"ATTRIBUTE_READ_ONLY", 0x10}, {"ATTRIBUTE_SENSITIVE", 0x11}, {"ATTRIBUTE_TYPE_INVALID", 0x12},
	{"ATTRIBUTE_VALUE_INVALID", 0x13}, {"ACTION_PROHIBITED", 0x1B}, {"DATA_INVALID", 0x20}, {"DATA_LEN_RANGE", 0x21}, {"DEVICE_ERROR", 0x30},
	{"DEVICE_MEMORY", 0x31}, {"DEVICE_REMOVED", 0x32}, {"ENCRYPTED_DATA_INVALID", 0x40}, {"ENCRYPTED_DATA_LEN_RANGE", 0x41}, {"FUNCTION_CANCELED", 0x50},
	{"FUNCTION_NOT_PARALLEL", 0x51}, {"FUNCTION_NOT_SUPPORTED", 0x54}, {"KEY_HANDLE_INVALID", 0x60}, {"KEY_SIZE_RANGE", 0x62},
	{"KEY_TYPE_INCONSISTENT", 0x63}, {"KEY_NOT_NEEDED", 0x64}, {"KEY_CHANGED", 0x65}, {"KEY_NEEDED", 0x66}, {"KEY_FUNCTION_NOT_PERMITTED", 0x68},
	{"KEY_NOT_WRAPPABLE", 0x69}, {"KEY_UNEXTRACTABLE", 0x6A}, {"MECHANISM_INVALID", 0x70}, {"MECHANISM_PARAM_INVALID", 0x71},
	{"OBJECT_HANDLE_INVALID", 0x82}, {"OPERATION_ACTIVE", 0x90}, {"OPERATION_NOT_INITIALIZED", 0x91}, {"PIN_INCORRECT", 0xA0}, {"PIN_INVALID", 0xA1},
	{"PIN_LEN_RANGE", 0xA2}, {"PIN_EXPIRED", 0xA3}, {"PIN_LOCKED", 0xA4}, {"SESSION_CLOSED", 0xB0}, {"SESSION_COUNT", 0xB1},
	{"SESSION_HANDLE_INVALID", 0xB3}, {"SESSION_READ_ONLY", 0xB5}, {"SESSION_EXISTS", 0xB6}, {"SIGNATURE_INVALID", 0xC0}, {"SIGNATURE_LEN_RANGE", 0xC1},
	{"TEMPLATE_INCOMPLETE", 0xD0}, {"TEMPLATE_INCONSISTENT", 0xD1}, {"TOKEN_NOT_PRESENT", 0xE0}, {"TOKEN_NOT_RECOGNIZED", 0xE1},
	{"TOKEN_WRITE_PROTECTED", 0xE2}, {"UNWRAPPING_KEY_HANDLE_INVALID", 0xF0}, {"USER_ALREADY_LOGGED_IN", 0x100}, {"USER_NOT_LOGGED_IN", 0x101},
	{"USER_PIN_NOT_INITIALIZED", 0x102}, {"USER_TYPE_INVALID", 0x103}, {"USER_ANOTHER_ALREADY_LOGGED_IN", 0x104}, {"USER_TOO_MANY_TYPES", 0x105},
	{"WRAPPED_KEY_INVALID", 0x110}, {"WRAPPED_KEY_LEN_RANGE", 0x112}, {"RANDOM_NO_RNG", 0x121}, {"DOMAIN_PARAMS_INVALID", 0x130},
	{"CURVE_NOT_SUPPORTED", 0x140}, {"BUFFER_TOO_SMALL", 0x150}, {"SAVED_STATE_INVALID", 0x160}, {"STATE_UNSAVEABLE", 0x180},
	{"CRYPTOKI_NOT_INITIALIZED", 0x190}, {"CRYPTOKI_ALREADY_INITIALIZED", 0x191}, {"MUTEX_BAD", 0x1A0}, {"FIPS_SELF_TEST_FAILED", 0x1B6},
	{"LIBRARY_LOAD_FAILED", 0x1B7}, {"PUBLIC_KEY_INVALID", 0x1B9}, {"FUNCTION_REJECTED", 0x200}, {"VENDOR_DEFINED", 0x80000000UL}, {NULL, 0},
};

static const word mechanisms[] = {
	{"RSA_PKCS", 1}, {"RSA_X_509", 3}, {"RSA_PKCS_OAEP", 9}, {"RSA_PKCS_PSS", 0xD}, {"SHA256_RSA_PKCS", 0x40}, {"SHA256_RSA_PKCS_PSS", 0x43},
	{"SHA256_HMAC", 0x251}, {"SHA384_HMAC", 0x261}, {"SHA512_HMAC", 0x271}, {"ECDSA", 0x1041}, {"ECDH1_DERIVE", 0x1050}, {"EDDSA", 0x1057},
	{"AES_ECB", 0x1081}, {"AES_CBC", 0x1082}, {"AES_GCM", 0x1087}, {"AES_KEY_WRAP", 0x2109}, {NULL, 0},
};

static const word flags[] = {
	{"RNG", 1}, {"WRITE_PROTECTED", 2}, {"LOGIN_REQUIRED", 4}, {"USER_PIN_INITIALIZED", 8}, {"PROTECTED_AUTHENTICATION_PATH", 0x100},
	{"TOKEN_INITIALIZED", 0x400}, {"USER_PIN_COUNT_LOW", 0x10000}, {"USER_PIN_FINAL_TRY", 0x20000}, {"USER_PIN_LOCKED", 0x40000},
	{"USER_PIN_TO_BE_CHANGED", 0x80000}, {"SO_PIN_COUNT_LOW", 0x100000}, {"SO_PIN_FINAL_TRY", 0x200000}, {"SO_PIN_LOCKED", 0x400000},
	{"ERROR_STATE", 0x1000000}, {NULL, 0},
};

/* number reads a number, or a name with or without its prefix (CKR_ ...). */
static int number(const char *s, const char *prefix, const word *words, N *value) {
	char *end;
	errno = 0;
	*value = strtoul(s, &end, 0);
	if (end != s && *end == 0 && errno == 0 && *s != '-') return 1;
	if (words == NULL) return 0;
	if (strncmp(s, prefix, strlen(prefix)) == 0) s += strlen(prefix);
	for (; words->name != NULL; words++)
		if (strcmp(s, words->name) == 0) return *value = words->value, 1;
	return 0;
}

/*
 * A record is a line of 64 bytes: a name and five counters. A counter is seven
 * digits and a space or the end of the line. It changes as one aligned 64-bit
 * word, so that no process reads half of a change, and the file is still text.
 */
enum { CALLS, QUERIES, FAULTS, FAILED, RUNNING, COUNTERS };
enum { NAME_BYTES = 24, RECORD_BYTES = 64, MOST = 9999999 };
typedef struct { char name[NAME_BYTES]; uint64_t counters[COUNTERS]; } record;

static record *stats;

static N decode(uint64_t cell) {
	char text[8];
	memcpy(text, &cell, 8);
	text[7] = 0;
	return strtoul(text, NULL, 10);
}

static uint64_t *counter(int which, int i) { return &stats[which + 1].counters[i]; }
static N count_of(int which, int i) { return decode(__atomic_load_n(counter(which, i), __ATOMIC_SEQ_CST)); }

/* count adds by to a counter. One that has reached MOST stays there. */
static void count(int which, int i, long by) {
	uint64_t *cell = counter(which, i), old = __atomic_load_n(cell, __ATOMIC_SEQ_CST), new;
	char text[24];
	do {
		N n = decode(old) + by;
		if (n > MOST) n = by > 0 ? MOST : 0;
		snprintf(text, sizeof text, "%7lu", n);
		text[7] = i == RUNNING ? '\n' : ' ';
		memcpy(&new, text, 8);
	} while (!__atomic_compare_exchange_n(cell, &old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

static void fill(record *r, const char *name, const char *const columns[COUNTERS]) {
	char line[RECORD_BYTES + 1];
	snprintf(line, sizeof line, "%-24s%7s %7s %7s %7s %7s\n", name, columns[0], columns[1], columns[2], columns[3], columns[4]);
	memcpy(r, line, RECORD_BYTES);
}

/* open_stats maps the stats file, and makes it if it is not there or empty. */
static int open_stats(void) {
	static const char *const heading[] = {"calls", "queries", "faults", "failed", "running"}, *const zeros[] = {"0", "0", "0", "0", "0"};
	static char mapped[4096];
	const char *path = getenv("FAULTP11_STATS");
	const size_t size = (RECORDS + 1) * RECORD_BYTES;
	if (path == NULL) path = "";
	if (stats != NULL && strcmp(path, mapped) == 0) return 1;
	int fd = -1, ok = 0;
	record *new = MAP_FAILED;
	if (*path == 0) {
		new = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) >= 0 && flock(fd, LOCK_EX) == 0) {
		struct stat st;
		ok = fstat(fd, &st) == 0 && st.st_size == (off_t)size;
		if (ok || ftruncate(fd, size) == 0) new = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (new == MAP_FAILED) {
		fprintf(stderr, "faultp11: FAULTP11_STATS %s: %s\n", path, strerror(errno));
	} else {
		if (!ok) fill(new, "#", heading);
		for (int i = 0; !ok && i < RECORDS; i++) fill(&new[i + 1], names[i], zeros);
		stats = new; /* the old mapping stays: a call may be counting there */
		snprintf(mapped, sizeof mapped, "%s", path);
	}
	if (fd >= 0) close(fd);
	return new != MAP_FAILED;
}

enum { MAX_RULES = 128, MAX_LINE = 160, ANY = -1 };

typedef struct {
	char text[MAX_LINE]; /* the whole line, which identifies the rule */
	int function;        /* ANY: all but C_Initialize and C_Finalize */
	unsigned long first, last, seen;
	long mechanism;      /* -1: any */
	int query, answers, hang, crash, flip, leave, old, logout;
	int until, over;     /* over is set when a call of the function until has succeeded; until is -1: never */
	N answer, shorten;
	unsigned long border; /* how many sessions had been opened when the line came */
	struct timespec sleep;
} rule;

typedef struct {
	rule rules[MAX_RULES];
	int n;
	N sessions, set, clear, dead_slot;
	int silent, has_dead_slot, has_init_args;
	char serial[17], init_args[MAX_LINE];
} control;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static control current, next;
static struct stat seen_stat;
static N seen_change;
static unsigned long births; /* sessions opened in this process */
static int control_is_good = 1;
static char control_path[4096]; /* set by load */

/* wrong reports a mistake. The process goes on: the file may be half written. */
static int wrong(int line, const char *what, const char *word) {
	fprintf(stderr, "faultp11: control file, line %d: %s: %s\n", line, what, word);
	return 0;
}

static int parse_range(rule *r, const char *s) {
	char *end;
	r->first = 1, r->last = -1UL;
	if (strcmp(s, "*") == 0) return 1;
	if (*s < '0' || *s > '9') return 0;
	r->first = r->last = strtoul(s, &end, 10);
	if (*end == '-') {
		s = end + 1, r->last = -1UL;
		if (*s != 0) {
			if (*s < '0' || *s > '9') return 0;
			r->last = strtoul(s, &end, 10);
		} else end++;
	}
	return *end == 0 && r->first > 0 && r->last >= r->first;
}

static int parse_sleep(rule *r, const char *s) {
	char *unit;
	unsigned long n = strtoul(s, &unit, 10), ns = strcmp(unit, "s") == 0 ? 1000000000 : strcmp(unit, "ms") == 0 ? 1000000 : strcmp(unit, "us") == 0 ? 1000 : 0;
	if (*s < '0' || *s > '9' || ns == 0 || n > 1000000000) return 0;
	r->sleep.tv_sec = n / (1000000000 / ns), r->sleep.tv_nsec = n % (1000000000 / ns) * ns;
	return 1;
}

/* function_named returns the number of a function, or FUNCTION_COUNT. */
static int function_named(const char *name) {
	int f = 0;
	while (f < FUNCTION_COUNT && strcmp(name, names[f]) != 0) f++;
	return f;
}

static int parse_effect(rule *r, const char *s) {
	N value;
	if (strncmp(s, "rv=", 3) == 0) return r->answers = number(s + 3, "CKR_", answers, &r->answer);
	if (strncmp(s, "sleep=", 6) == 0) return parse_sleep(r, s + 6);
	if (strncmp(s, "short=", 6) == 0) return number(s + 6, "", NULL, &r->shorten);
	if (strncmp(s, "until=", 6) == 0) return (r->until = function_named(s + 6)) < FUNCTION_COUNT;
	if (strncmp(s, "mech=", 5) == 0) return number(s + 5, "CKM_", mechanisms, &value) && (r->mechanism = value) >= 0;
	if (strcmp(s, "hang") == 0) return r->hang = 1;
	if (strcmp(s, "crash") == 0) return r->crash = 1;
	if (strcmp(s, "flip") == 0) return r->flip = 1;
	if (strcmp(s, "leave") == 0) return r->leave = 1;
	if (strcmp(s, "query") == 0) return r->query = 1;
	if (strcmp(s, "old") == 0) return r->old = 1;
	if (strcmp(s, "logout") == 0) return r->logout = 1;
	return 0;
}

static int parse_flags(control *c, char **rest) {
	N value;
	char *word;
	while ((word = strtok_r(NULL, " \t", rest)) != NULL) {
		if ((*word != '+' && *word != '-') || !number(word + 1, "CKF_", flags, &value)) return 0;
		*(*word == '+' ? &c->set : &c->clear) |= value;
	}
	return 1;
}

static int parse_rule(control *c, int line, const char *text, const char *function, char **rest) {
	rule *r = &c->rules[c->n];
	char *word = strtok_r(NULL, " \t", rest);
	memset(r, 0, sizeof *r);
	snprintf(r->text, sizeof r->text, "%s", text);
	r->mechanism = r->until = -1;
	r->function = strcmp(function, "*") == 0 ? ANY : function_named(function);
	if (r->function == FUNCTION_COUNT || r->function == F_C_GetFunctionList) return wrong(line, "no such function or word", function);
	if (word == NULL || !parse_range(r, word)) return wrong(line, "not *, N, N-M or N-", word ? word : "nothing");
	if ((word = strtok_r(NULL, " \t", rest)) == NULL) return wrong(line, "what is to happen?", text);
	for (; word != NULL; word = strtok_r(NULL, " \t", rest))
		if (!parse_effect(r, word)) return wrong(line, "no such effect", word);
	c->n++;
	return 1;
}

static int parse_line(control *c, int line, const char *text) {
	char copy[MAX_LINE], *rest, *word, *arg;
	snprintf(copy, sizeof copy, "%s", text);
	copy[strcspn(copy, "#")] = 0;
	if ((word = strtok_r(copy, " \t", &rest)) == NULL) return 1;
	if (strcmp(word, "token-flags") == 0) return parse_flags(c, &rest) || wrong(line, "not +FLAG or -FLAG", text);
	if (strcmp(word, "sessions") == 0) {
		if ((arg = strtok_r(NULL, " \t", &rest)) == NULL || !number(arg, "", NULL, &c->sessions)) return wrong(line, "not a number", text);
		if ((arg = strtok_r(NULL, " \t", &rest)) != NULL) c->silent = strcmp(arg, "silent") == 0;
		return arg == NULL || c->silent || wrong(line, "not silent", arg);
	}
	if (strcmp(word, "serial") == 0) {
		if ((arg = strtok_r(NULL, " \t", &rest)) == NULL || strlen(arg) > 16) return wrong(line, "not 1 to 16 bytes", text);
		return snprintf(c->serial, sizeof c->serial, "%s", arg);
	}
	if (strcmp(word, "dead-slot") == 0) {
		if ((arg = strtok_r(NULL, " \t", &rest)) == NULL || !number(arg, "", NULL, &c->dead_slot)) return wrong(line, "not a number", text);
		return c->has_dead_slot = 1;
	}
	if (strcmp(word, "init-args") == 0) {
		snprintf(c->init_args, sizeof c->init_args, "%s", rest + strspn(rest, " \t"));
		for (size_t n = strlen(c->init_args); n > 0 && strchr(" \t", c->init_args[n - 1]) != NULL; n--) c->init_args[n - 1] = 0;
		return (c->has_init_args = *c->init_args != 0) || wrong(line, "which string?", text);
	}
	if (c->n == MAX_RULES) return wrong(line, "too many lines", text);
	return parse_rule(c, line, text, word, &rest);
}

static int parse(FILE *f, control *c) {
	char text[MAX_LINE];
	memset(c, 0, sizeof *c);
	for (int line = 1; fgets(text, sizeof text, f) != NULL; line++) {
		size_t n = strcspn(text, "\r\n");
		if (n == sizeof text - 1) return wrong(line, "longer than 158 bytes", text);
		text[n] = 0;
		if (!parse_line(c, line, text)) return 0;
	}
	return 1;
}

/*
 * reload_locked reads the control file if it has changed: its inode, size or times
 * differ, or its writer has counted up "control" in the stats file, since a change
 * within one tick of the clock shows in nothing else. A line that was there before
 * keeps its count. A file with a mistake changes nothing.
 */
static void reload_locked(void) {
	struct stat st = {0};
	const N change = count_of(CONTROL, CALLS);
	const int there = *control_path != 0 && stat(control_path, &st) == 0;
	if (!there) memset(&st, 0, sizeof st);
	if (change == seen_change && st.st_ino == seen_stat.st_ino && st.st_dev == seen_stat.st_dev && st.st_size == seen_stat.st_size &&
	    st.st_mtim.tv_sec == seen_stat.st_mtim.tv_sec && st.st_mtim.tv_nsec == seen_stat.st_mtim.tv_nsec)
		return;
	FILE *f = there ? fopen(control_path, "re") : NULL;
	seen_stat = st, seen_change = change;
	memset(&next, 0, sizeof next);
	control_is_good = f == NULL || parse(f, &next);
	if (f != NULL) fclose(f);
	if (!control_is_good) return count(CONTROL_ERRORS, CALLS, 1);
	for (rule *r = next.rules; r < next.rules + next.n; r++) {
		r->border = births;
		for (rule *old = current.rules; old < current.rules + current.n; old++)
			if (strcmp(r->text, old->text) == 0) r->seen = old->seen, r->over = old->over, r->border = old->border;
	}
	current = next;
}

typedef struct { N handle, slot, mechanism; unsigned long born; int calls; } session;

static session *sessions;
static size_t session_count, session_space, opening;
static int calls_running; /* in this process */

static session *session_locked(N handle) {
	for (size_t i = 0; i < session_count; i++)
		if (sessions[i].handle == handle) return &sessions[i];
	return NULL;
}

static void add_session_locked(N handle, N slot) {
	if (session_count == session_space) {
		session *more = realloc(sessions, (session_space + 64) * sizeof *sessions);
		if (more == NULL) return;
		sessions = more, session_space += 64;
	}
	sessions[session_count++] = (session){.handle = handle, .slot = slot, .born = ++births};
	count(SESSIONS, CALLS, 1);
	count(SESSIONS, RUNNING, 1);
}

enum which { ONE, SLOT, ALL };

/* drop_sessions forgets the session with a handle, those in a slot, or all. */
static void drop_sessions(enum which which, N value) {
	pthread_mutex_lock(&lock);
	for (size_t i = session_count; i-- > 0;)
		if (which == ALL || (which == SLOT ? sessions[i].slot : sessions[i].handle) == value) {
			sessions[i] = sessions[--session_count];
			count(SESSIONS, RUNNING, -1);
		}
	pthread_mutex_unlock(&lock);
}

typedef struct {
	int function, query, forward, answers, flip;
	N session, answer, shorten; /* answer is that of the rule, if answers is set */
} call;

static rule *match_locked(const call *c, N mechanism, const session *s) {
	rule *found = NULL;
	for (rule *r = current.rules; r < current.rules + current.n; r++) {
		if (r->function == ANY ? c->function == F_C_Initialize || c->function == F_C_Finalize : r->function != c->function) continue;
		if (r->query != c->query || (r->mechanism >= 0 && (N)r->mechanism != mechanism)) continue;
		if (r->over || r->until == c->function || (r->old && (s == NULL || s->born > r->border))) continue;
		r->seen++;
		if (found == NULL && r->seen >= r->first && r->seen <= r->last) found = r;
	}
	return found;
}

/* hang waits until the control file no longer has the line. */
static void hang(const char *text) {
	for (int there = 1; there;) {
		usleep(1000);
		pthread_mutex_lock(&lock);
		reload_locked();
		there = 0;
		for (int i = 0; i < current.n; i++) there |= strcmp(current.rules[i].text, text) == 0;
		pthread_mutex_unlock(&lock);
	}
}

enum { ENDS = 1, HAS_SESSION = 2 };

static function_list real;

/* begin counts a call and applies the first rule that fits it. */
static call begin(int function, int kind, N handle, const M *m, int query) {
	call c = {.function = function, .query = query, .forward = 1, .session = kind & HAS_SESSION ? handle : 0};
	rule r = {0};
	N mechanism = m != NULL ? m->mechanism : 0;
	pthread_mutex_lock(&lock);
	reload_locked();
	calls_running++;
	session *s = c.session ? session_locked(c.session) : NULL;
	if (s != NULL) {
		if (s->calls++ > 0) count(function == F_C_CloseSession ? BUSY_CLOSE : SHARED_SESSION, CALLS, 1);
		if (m != NULL) s->mechanism = mechanism;
		mechanism = s->mechanism;
	}
	rule *found = match_locked(&c, mechanism, s);
	if (found != NULL) r = *found;
	if (r.logout && c.session) (void)real.C_Logout(c.session); /* with the lock, so that no other call meets the fault before the user is logged out */
	pthread_mutex_unlock(&lock);

	count(function, query ? QUERIES : CALLS, 1);
	count(function, RUNNING, 1);
	if (found == NULL) return c;

	count(function, FAULTS, 1);
	if (r.crash) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
		_exit(139); /* SIGSEGV is blocked */
	}
	while (nanosleep(&r.sleep, &r.sleep) != 0 && errno == EINTR) {}
	if (r.hang) hang(r.text);
	c.flip = r.flip, c.shorten = r.shorten, c.answers = r.answers, c.answer = r.answer;

	/* A token that fails an operation has ended it. So the real module ends it too, and its answer is dropped. */
	c.forward = !r.answers || (kind & ENDS && !r.leave);
	return c;
}

static N end(const call *c, N answer) {
	if (c->answers) answer = c->answer;
	pthread_mutex_lock(&lock);
	calls_running--;
	session *s = c->session ? session_locked(c->session) : NULL;
	if (s != NULL && s->calls > 0) s->calls--;
	for (rule *r = current.rules; answer == OK && r < current.rules + current.n; r++) r->over |= r->until == c->function;
	pthread_mutex_unlock(&lock);
	count(c->function, RUNNING, -1);
	if (answer != OK) count(c->function, FAILED, 1);
	return answer;
}

/* spoil makes a good answer a bad one. */
static void spoil(const call *c, B *out, N *n) {
	if (c->query || c->answers || n == NULL || *n == 0) return;
	if (c->flip) out[*n / 2] ^= 1;
	*n -= c->shorten < *n ? c->shorten : *n;
}

#define FORWARD(name, args) (c.forward ? real.name args : OK)
#define WRITTEN(name, params, args)
#define PLAIN(name, params, args) \
	static N f_##name params { call c = begin(F_##name, 0, 0, NULL, 0); return end(&c, FORWARD(name, args)); }
#define ON_SESSION(name, params, args) \
	static N f_##name params { call c = begin(F_##name, HAS_SESSION, s, NULL, 0); return end(&c, FORWARD(name, args)); }
#define INIT(name, params, args) \
	static N f_##name params { call c = begin(F_##name, HAS_SESSION, s, m, 0); return end(&c, FORWARD(name, args)); }
#define ENDING(name, params, args) \
	static N f_##name params { call c = begin(F_##name, HAS_SESSION | ENDS, s, NULL, 0); return end(&c, FORWARD(name, args)); }
#define ANSWERING(name, params, args, kind) \
	static N f_##name params { \
		call c = begin(F_##name, kind, s, NULL, out == NULL && n != NULL); \
		N answer = FORWARD(name, args); \
		if (answer == OK) spoil(&c, out, n); \
		return end(&c, answer); \
	}
#define ENDING_ANSWER(name, params, args) ANSWERING(name, params, args, HAS_SESSION | ENDS)
#define OTHER_ANSWER(name, params, args) ANSWERING(name, params, args, HAS_SESSION)
FUNCTIONS(WRITTEN, PLAIN, ON_SESSION, INIT, ENDING, ENDING_ANSWER, OTHER_ANSWER)

/* dead reports whether slot is the one that the line dead-slot adds. */
static int dead(N slot) {
	pthread_mutex_lock(&lock);
	const int is = current.has_dead_slot && current.dead_slot == slot;
	pthread_mutex_unlock(&lock);
	return is;
}

/* The dead slot comes first in the list, so that a program that stops at it sees no other. */
static N f_C_GetSlotList(B present, N *slots, N *n) {
	call c = begin(F_C_GetSlotList, 0, 0, NULL, 0);
	pthread_mutex_lock(&lock);
	const int more = c.forward && current.has_dead_slot && n != NULL;
	const N slot = current.dead_slot;
	pthread_mutex_unlock(&lock);
	if (more && slots != NULL && *n == 0) return end(&c, BUFFER_TOO_SMALL);
	if (more && slots != NULL) *slots++ = slot, --*n;
	N answer = FORWARD(C_GetSlotList, (present, slots, n));
	if (more) ++*n;
	return end(&c, answer);
}

static N f_C_GetTokenInfo(N slot, token_info *info) {
	call c = begin(F_C_GetTokenInfo, 0, 0, NULL, 0);
	if (c.forward && dead(slot)) return end(&c, DEVICE_ERROR);
	N answer = FORWARD(C_GetTokenInfo, (slot, info));
	if (c.forward && answer == OK) {
		pthread_mutex_lock(&lock);
		info->flags = (info->flags | current.set) & ~current.clear;
		if (current.sessions && !current.silent) info->max_sessions = info->max_rw = current.sessions;
		if (*current.serial) {
			memset(info->serial, ' ', sizeof info->serial);
			memcpy(info->serial, current.serial, strlen(current.serial));
		}
		pthread_mutex_unlock(&lock);
	}
	return end(&c, answer);
}

static N f_C_OpenSession(N slot, N flags, void *app, void *notify, N *s) {
	call c = begin(F_C_OpenSession, 0, 0, NULL, 0);
	pthread_mutex_lock(&lock);
	opening++;
	if (c.forward && current.sessions && session_count + opening > current.sessions) {
		c.forward = 0, c.answers = 1, c.answer = SESSION_COUNT;
		count(SESSIONS, FAULTS, 1);
	}
	pthread_mutex_unlock(&lock);
	N answer = FORWARD(C_OpenSession, (slot, flags, app, notify, s));
	pthread_mutex_lock(&lock);
	opening--;
	if (c.forward && answer == OK) add_session_locked(*s, slot);
	pthread_mutex_unlock(&lock);
	return end(&c, answer);
}

static N f_C_CloseSession(N s) {
	call c = begin(F_C_CloseSession, HAS_SESSION, s, NULL, 0);
	N answer = FORWARD(C_CloseSession, (s));
	if (c.forward && answer == OK) drop_sessions(ONE, s);
	return end(&c, answer);
}

/* quiet counts a call that interrupts other calls: a session of the slot other than self is in use. */
static void quiet(int which, N slot, N self) {
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < session_count; i++)
		if (sessions[i].slot == slot && sessions[i].calls > (sessions[i].handle == self)) {
			count(which, CALLS, 1);
			break;
		}
	pthread_mutex_unlock(&lock);
}

static N f_C_CloseAllSessions(N slot) {
	call c = begin(F_C_CloseAllSessions, 0, 0, NULL, 0);
	quiet(BUSY_CLOSE, slot, 0);
	N answer = FORWARD(C_CloseAllSessions, (slot));
	if (c.forward && answer == OK) drop_sessions(SLOT, slot);
	return end(&c, answer);
}

static N f_C_Logout(N s) {
	call c = begin(F_C_Logout, HAS_SESSION, s, NULL, 0);
	pthread_mutex_lock(&lock);
	const session *own = session_locked(s);
	const N slot = own != NULL ? own->slot : 0;
	pthread_mutex_unlock(&lock);
	if (own != NULL) quiet(BUSY_LOGOUT, slot, s);
	return end(&c, FORWARD(C_Logout, (s)));
}

static N f_C_Finalize(void *reserved) {
	call c = begin(F_C_Finalize, 0, 0, NULL, 0);
	pthread_mutex_lock(&lock);
	const long open = session_count;
	if (calls_running > 1) count(BUSY_FINALIZE, CALLS, 1);
	pthread_mutex_unlock(&lock);
	N answer = FORWARD(C_Finalize, (reserved));
	if (c.forward && answer == OK) {
		drop_sessions(ALL, 0);
		count(LEFT_OPEN, CALLS, open);
		count(LEFT_OPEN, RUNNING, open - (long)count_of(LEFT_OPEN, RUNNING));
	}
	return end(&c, answer);
}

/* load opens the real module and the stats file, unless they are those of before. */
static N load(void) {
	static char loaded[4096];
	const char *path = getenv("FAULTP11_MODULE"), *file = getenv("FAULTP11_CONTROL");
	N (*get)(function_list **), answer;
	function_list *list;
	if (path == NULL || *path == 0) return fprintf(stderr, "faultp11: FAULTP11_MODULE is not set\n"), GENERAL_ERROR;
	if (!open_stats()) return GENERAL_ERROR;
	snprintf(control_path, sizeof control_path, "%s", file != NULL ? file : "");
	if (strcmp(path, loaded) == 0) return OK;
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL) return fprintf(stderr, "faultp11: FAULTP11_MODULE: %s\n", dlerror()), GENERAL_ERROR;
	*(void **)&get = dlsym(lib, "C_GetFunctionList");
	if (get == NULL) return fprintf(stderr, "faultp11: FAULTP11_MODULE: %s\n", dlerror()), GENERAL_ERROR;
	if ((answer = get(&list)) != OK) return answer;
	real = *list;
	snprintf(loaded, sizeof loaded, "%s", path);
	return OK;
}

/* A mistake in the control file is refused here: otherwise a test without its fault would pass. */
static N f_C_Initialize(void *args) {
	pthread_mutex_lock(&lock);
	N answer = load();
	if (answer == OK) {
		reload_locked();
		if (!control_is_good) answer = GENERAL_ERROR;
	}
	pthread_mutex_unlock(&lock);
	if (answer != OK) return answer;
	call c = begin(F_C_Initialize, 0, 0, NULL, 0);
	init_args own = {0};
	pthread_mutex_lock(&lock);
	const init_args *given = args;
	if (current.has_init_args && c.forward) {
		if (given == NULL || given->reserved == NULL || strcmp(given->reserved, current.init_args) != 0) c.forward = 0, c.answers = 1, c.answer = ARGUMENTS_BAD;
		else own = *given, own.reserved = NULL, args = &own;
	}
	pthread_mutex_unlock(&lock);
	return end(&c, FORWARD(C_Initialize, (args)));
}

#define ENTRY(name, params, args) .name = f_##name,
static N f_C_GetFunctionList(void *list);
static function_list faulty = {2, 40, FUNCTIONS(ENTRY, ENTRY, ENTRY, ENTRY, ENTRY, ENTRY, ENTRY)};

N C_GetFunctionList(function_list **list);
N C_GetFunctionList(function_list **list) {
	pthread_mutex_lock(&lock);
	N answer = load();
	pthread_mutex_unlock(&lock);
	*list = &faulty; /* also on failure: miekg/pkcs11 does not look at the answer */
	return answer;
}

static N f_C_GetFunctionList(void *list) { return C_GetFunctionList(list); }
