/*
 * A PKCS#11 module that forwards to the one in SHIM_MODULE, counts calls, and
 * answers or waits as the file SHIM_CONTROL says: an array of 64-bit numbers
 * that the test writes while the module runs. See shim_test.go.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pkcs11go.h"

enum {
	/* counted here */
	INITIALIZES, FINALIZES, LOGINS, LOGOUTS, OPENS, CLOSES, SIGNS, DECRYPTS, RUNNING, VIOLATIONS,
	DROPPED,  /* sessions that were open at a C_Finalize */
	LEFT_OPEN, /* of them, at the last C_Finalize */
	TOKEN_INFOS, SESSION_INFOS,
	GOT_ARGS,  /* the length of the string in pReserved */
	/* set by the test: what to answer instead of asking the token, if not 0 */
	RV_LOGIN = 16, RV_OPEN, RV_SIGN_INIT, RV_SIGN, RV_DECRYPT_INIT, RV_DECRYPT, RV_TOKEN_INFO, RV_FIND,
	/* set by the test */
	GATE = 32,     /* C_Sign waits while it is not 0 */
	TOKEN_FLAGS,   /* added to the token's flags */
	MAX_SESSIONS,  /* the token's ulMaxSessionCount */
	FLIP,          /* C_Sign's answers are wrong by one bit */
	SHORT,         /* C_Sign's answers are that much too short */
	BROKEN_SLOT,   /* C_GetSlotList starts with a slot that does not answer */
	NO_RAW,        /* C_DecryptInit refuses CKM_RSA_X_509 */
	LOGIN_GATE,    /* C_Login waits while it is not 0 */
	NO_PSS,        /* C_SignInit takes CKM_RSA_PKCS_PSS, and C_Sign refuses it */
	INSTANT,       /* C_DecryptInit and C_Decrypt answer this without asking the token */
	/* A fault: FAULT is the answer of the calls of which FAULT_AT has the bit,
	 * until what FAULT_UNTIL says has happened. */
	FAULT = 48, FAULT_AT, FAULT_UNTIL,
	FAULT_LEFT,    /* how many calls it hits, for BY_COUNT */
	FAULT_BORDER,  /* the last session that it hits, for BY_SESSION */
	FAULT_HOLD,    /* C_Initialize fails, too, while it is not 0 */
	LAST_SESSION,  /* counted here: the youngest handle */
	WANT_ARGS,     /* not 0: the module gets no pReserved, and GOT_ARGS is set */
	OPEN_LIMIT,    /* how many sessions may be open, if not 0 */
	NUMBERS = 64
};

enum { AT_SIGN_INIT = 1, AT_SIGN = 2, AT_SESSION_INFO = 4, AT_ALL = 0xff };
enum { BY_COUNT = 1, BY_SESSION, BY_FIND, BY_LOGIN, BY_INITIALIZE };

static CK_FUNCTION_LIST real, shim;
static volatile uint64_t *control;
static __thread int pss;
static int initialised;

#define COUNT(i) __atomic_add_fetch(&control[i], 1, __ATOMIC_SEQ_CST)
#define ENTER() COUNT(RUNNING)
#define LEAVE() __atomic_sub_fetch(&control[RUNNING], 1, __ATOMIC_SEQ_CST)

/* What the fault, if there is one, has call at answer in session s. */
static CK_RV fault(unsigned at, CK_SESSION_HANDLE s) {
	uint64_t rv = control[FAULT];
	if (rv == 0 || !(control[FAULT_AT] & at)) return CKR_OK;
	if (control[FAULT_UNTIL] == BY_SESSION && s > control[FAULT_BORDER]) return CKR_OK;
	if (control[FAULT_UNTIL] == BY_COUNT) {
		uint64_t left = control[FAULT_LEFT];
		do {
			if (left == 0) return CKR_OK;
		} while (!__atomic_compare_exchange_n(&control[FAULT_LEFT], &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	}
	return rv;
}

static void happened(unsigned what) { if (control[FAULT_UNTIL] == what) control[FAULT] = 0; }

/* No call may be running when sessions or the module go. */
static void quiet(void) { if (control[RUNNING] != 0) COUNT(VIOLATIONS); }

static CK_RV initialize(CK_VOID_PTR args) {
	int fd = open(getenv("SHIM_CONTROL"), O_RDWR | O_CLOEXEC);
	if (fd < 0) return CKR_GENERAL_ERROR;
	control = mmap(NULL, NUMBERS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (control == MAP_FAILED) return CKR_GENERAL_ERROR;
	if (control[FAULT_HOLD]) return control[FAULT];
	COUNT(INITIALIZES);
	happened(BY_INITIALIZE);
	initialised = 1;
	if (control[WANT_ARGS]) {
		CK_C_INITIALIZE_ARGS own = *(CK_C_INITIALIZE_ARGS *)args;
		control[GOT_ARGS] = own.pReserved == NULL ? 0 : strlen(own.pReserved);
		own.pReserved = NULL;
		return real.C_Initialize(&own);
	}
	return real.C_Initialize(args);
}

static CK_RV finalize(CK_VOID_PTR reserved) {
	quiet();
	if (!initialised) return CKR_CRYPTOKI_NOT_INITIALIZED;
	initialised = 0;
	COUNT(FINALIZES);
	control[LEFT_OPEN] = control[OPENS] - control[CLOSES] - control[DROPPED];
	control[DROPPED] += control[LEFT_OPEN];
	return real.C_Finalize(reserved);
}

#define DEAD_SLOT ((CK_SLOT_ID)0x7ead)

static CK_RV slot_list(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR n) {
	if (!control[BROKEN_SLOT]) return real.C_GetSlotList(present, slots, n);
	CK_RV rv;
	if (slots == NULL) {
		rv = real.C_GetSlotList(present, NULL, n);
		(*n)++;
		return rv;
	}
	(*n)--;
	rv = real.C_GetSlotList(present, slots + 1, n);
	slots[0] = DEAD_SLOT;
	(*n)++;
	return rv;
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
	if (slot == DEAD_SLOT) return CKR_DEVICE_ERROR;
	COUNT(TOKEN_INFOS);
	if (fault(AT_ALL & ~7u, 0)) return control[FAULT];
	if (control[RV_TOKEN_INFO]) return control[RV_TOKEN_INFO];
	CK_RV rv = real.C_GetTokenInfo(slot, info);
	info->flags |= control[TOKEN_FLAGS];
	if (control[MAX_SESSIONS]) info->ulMaxSessionCount = control[MAX_SESSIONS];
	return rv;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR app, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR s) {
	if (control[RV_OPEN]) return control[RV_OPEN];
	if (fault(AT_ALL & ~7u, 0)) return control[FAULT];
	if (control[OPEN_LIMIT] && control[OPENS] - control[CLOSES] - control[DROPPED] >= control[OPEN_LIMIT]) return CKR_SESSION_COUNT;
	COUNT(OPENS);
	CK_RV rv = real.C_OpenSession(slot, flags, app, notify, s);
	if (rv == CKR_OK && *s > control[LAST_SESSION]) control[LAST_SESSION] = *s;
	return rv;
}

static CK_RV session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info) {
	COUNT(SESSION_INFOS);
	CK_RV rv = fault(AT_SESSION_INFO, s);
	if (rv == CKR_OK) rv = real.C_GetSessionInfo(s, info);
	if (rv == CKR_OK && control[FAULT] && control[FAULT_UNTIL] == BY_LOGIN) info->state = CKS_RO_PUBLIC_SESSION;
	return rv;
}

static CK_RV close_session(CK_SESSION_HANDLE s) {
	COUNT(CLOSES);
	return real.C_CloseSession(s);
}

static CK_RV login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG n) {
	COUNT(LOGINS);
	while (control[LOGIN_GATE]) usleep(1000);
	if (control[RV_LOGIN]) return control[RV_LOGIN];
	if (control[FAULT] && control[FAULT_UNTIL] == BY_LOGIN) (void)real.C_Logout(s); /* as the fault has said */
	happened(BY_LOGIN);
	return real.C_Login(s, user, pin, n);
}

static CK_RV logout(CK_SESSION_HANDLE s) {
	quiet();
	COUNT(LOGOUTS);
	return real.C_Logout(s);
}

static CK_RV find_init(CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR template, CK_ULONG n) {
	if (control[RV_FIND]) return control[RV_FIND];
	if (fault(AT_ALL & ~7u, s)) return control[FAULT];
	happened(BY_FIND);
	return real.C_FindObjectsInit(s, template, n);
}

static CK_RV sign_init(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key) {
	if (control[RV_SIGN_INIT]) return control[RV_SIGN_INIT];
	CK_RV rv = fault(AT_SIGN_INIT, s);
	if (rv != CKR_OK) return rv;
	pss = m->mechanism == CKM_RSA_PKCS_PSS;
	return real.C_SignInit(s, m, key);
}

static CK_RV sign(CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR m) {
	ENTER();
	while (control[GATE]) usleep(1000);
	CK_RV rv = control[RV_SIGN];
	if (rv == 0) rv = fault(AT_SIGN, s);
	if (rv == 0 && control[NO_PSS] && pss) rv = CKR_MECHANISM_INVALID;
	if (rv != 0) {
		/* Finish the operation, as an answer of the token itself would have. */
		CK_BYTE drop[1024];
		CK_ULONG d = sizeof drop;
		(void)real.C_Sign(s, in, n, drop, &d);
	} else {
		rv = real.C_Sign(s, in, n, out, m);
		if (out != NULL && rv == CKR_OK) {
			COUNT(SIGNS);
			if (control[FLIP]) out[*m / 2] ^= 1;
			*m -= control[SHORT];
		}
	}
	LEAVE();
	return rv;
}

static CK_RV decrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key) {
	if (control[RV_DECRYPT_INIT]) return control[RV_DECRYPT_INIT];
	if (control[INSTANT]) return CKR_OK;
	if (control[NO_RAW] && m->mechanism == CKM_RSA_X_509) return CKR_MECHANISM_INVALID;
	return real.C_DecryptInit(s, m, key);
}

static CK_RV decrypt(CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR m) {
	ENTER();
	CK_RV rv = control[RV_DECRYPT];
	if (control[INSTANT]) {
		if (out != NULL) memset(out, 0x5a, *m);
		LEAVE();
		return out == NULL ? CKR_OK : control[INSTANT];
	}
	if (rv != 0) {
		CK_BYTE drop[1024];
		CK_ULONG d = sizeof drop;
		(void)real.C_Decrypt(s, in, n, drop, &d);
	} else {
		rv = real.C_Decrypt(s, in, n, out, m);
		if (out != NULL) COUNT(DECRYPTS);
	}
	LEAVE();
	return rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
	CK_FUNCTION_LIST_PTR functions;
	void *lib = dlopen(getenv("SHIM_MODULE"), RTLD_NOW);
	if (lib == NULL) return CKR_GENERAL_ERROR;
	CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(lib, "C_GetFunctionList");
	CK_RV rv = get(&functions);
	if (rv != CKR_OK) return rv;
	real = shim = *functions;
	shim.C_Initialize = initialize;
	shim.C_Finalize = finalize;
	shim.C_GetSlotList = slot_list;
	shim.C_GetTokenInfo = token_info;
	shim.C_OpenSession = open_session;
	shim.C_CloseSession = close_session;
	shim.C_GetSessionInfo = session_info;
	shim.C_Login = login;
	shim.C_Logout = logout;
	shim.C_FindObjectsInit = find_init;
	shim.C_SignInit = sign_init;
	shim.C_Sign = sign;
	shim.C_DecryptInit = decrypt_init;
	shim.C_Decrypt = decrypt;
	*list = &shim;
	return CKR_OK;
}
