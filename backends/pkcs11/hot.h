/*
 * The calls into a PKCS#11 module that each request needs, as one C function
 * for each operation. See hot.go.
 *
 * Nothing here allocates, keeps a pointer, or calls back. Outputs go into the
 * caller's buffer, which is wiped when the operation fails.
 *
 * Names, types and numbers are those of PKCS #11 Cryptographic Token Interface
 * Base Specification Version 2.40: general data types in section 3, functions
 * in section 5, and the packing and calling convention of Unix, which are the
 * platform's own (section 2.1).
 */
#ifndef SIGNETD_PKCS11_HOT_H
#define SIGNETD_PKCS11_HOT_H

#include <dlfcn.h>
#include <string.h>

typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG; /* also CK_RV, CK_FLAGS, handles and types */

typedef struct { CK_BYTE major, minor; } CK_VERSION;                                  /* section 3.1 */
typedef struct { CK_ULONG mechanism; const void *params; CK_ULONG len; } CK_MECHANISM; /* section 3.5 */

typedef CK_ULONG (*ck_login)(CK_ULONG session, CK_ULONG user, const CK_BYTE *pin, CK_ULONG len);
typedef CK_ULONG (*ck_init)(CK_ULONG session, CK_MECHANISM *m, CK_ULONG key);
typedef CK_ULONG (*ck_operate)(CK_ULONG session, const CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *len);

/* CK_FUNCTION_LIST (section 3.6); functions that are not called here have no type. */
typedef struct {
	CK_VERSION version;
	void *C_Initialize, *C_Finalize, *C_GetInfo, *C_GetFunctionList, *C_GetSlotList, *C_GetSlotInfo,
		*C_GetTokenInfo, *C_GetMechanismList, *C_GetMechanismInfo, *C_InitToken, *C_InitPIN, *C_SetPIN,
		*C_OpenSession, *C_CloseSession, *C_CloseAllSessions, *C_GetSessionInfo, *C_GetOperationState,
		*C_SetOperationState;
	ck_login C_Login;
	void *C_Logout, *C_CreateObject, *C_CopyObject, *C_DestroyObject, *C_GetObjectSize,
		*C_GetAttributeValue, *C_SetAttributeValue, *C_FindObjectsInit, *C_FindObjects, *C_FindObjectsFinal,
		*C_EncryptInit, *C_Encrypt, *C_EncryptUpdate, *C_EncryptFinal;
	ck_init C_DecryptInit;
	ck_operate C_Decrypt;
	void *C_DecryptUpdate, *C_DecryptFinal, *C_DigestInit, *C_Digest, *C_DigestUpdate, *C_DigestKey,
		*C_DigestFinal;
	ck_init C_SignInit;
	ck_operate C_Sign;
	void *C_SignUpdate, *C_SignFinal, *C_SignRecoverInit, *C_SignRecover, *C_VerifyInit, *C_Verify,
		*C_VerifyUpdate, *C_VerifyFinal, *C_VerifyRecoverInit, *C_VerifyRecover, *C_DigestEncryptUpdate,
		*C_DecryptDigestUpdate, *C_SignEncryptUpdate, *C_DecryptVerifyUpdate, *C_GenerateKey,
		*C_GenerateKeyPair, *C_WrapKey;
} hot_functions; /* the rest of the list is not called here */

enum { HOT_INIT = 1, HOT_LOGIN, HOT_OPERATION };
enum { CKU_CONTEXT_SPECIFIC = 2 };

/* What the module answered, in which call, and the length of the output or the
 * handle of the new object. */
typedef struct { CK_ULONG rv, stage, out; } hot_answer;

/* A key to use, and the PIN if it wants one for each operation, else NULL. */
typedef struct {
	const hot_functions *f;
	CK_ULONG session, mechanism;
	CK_ULONG params[5]; /* none of its words is a pointer that is not NULL */
	CK_ULONG params_len, key;
} hot_use;

/* Returns NULL, and the loader's words in *why or the module's answer in *rv. */
static hot_functions *hot_load(const char *path, const char **why, CK_ULONG *rv) {
	hot_functions *f = NULL;
	void *lib = dlopen(path, RTLD_NOW); /* never closed: the module's threads may still run */
	if (lib == NULL) {
		*why = dlerror();
		return NULL;
	}
	CK_ULONG (*list)(hot_functions **) = (CK_ULONG (*)(hot_functions **))dlsym(lib, "C_GetFunctionList");
	if (list == NULL) {
		*why = dlerror();
		return NULL;
	}
	*rv = list(&f);
	return *rv == 0 ? f : NULL;
}

static CK_ULONG hot_login(const hot_functions *f, CK_ULONG session, CK_ULONG user, const CK_BYTE *pin, CK_ULONG len) {
	return f->C_Login(session, user, pin, len);
}

static hot_answer hot_operate(ck_init init, ck_operate operate, const hot_use *u, const CK_BYTE *pin, CK_ULONG pin_len,
	const CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG cap) {
	CK_MECHANISM m = {u->mechanism, u->params_len ? u->params : NULL, u->params_len};
	hot_answer a = {0, HOT_INIT, cap};
	a.rv = init(u->session, &m, u->key);
	if (a.rv == 0 && pin != NULL) {
		a.stage = HOT_LOGIN;
		a.rv = u->f->C_Login(u->session, CKU_CONTEXT_SPECIFIC, pin, pin_len);
	}
	if (a.rv == 0) {
		a.stage = HOT_OPERATION;
		a.rv = operate(u->session, in, n, out, &a.out);
	}
	if (a.rv == 0 && a.out > cap) a.rv = 0x150; /* CKR_BUFFER_TOO_SMALL */
	if (a.rv != 0) {
		memset(out, 0, cap);
		a.out = 0;
	}
	return a;
}

static hot_answer hot_sign(const hot_use *u, const CK_BYTE *pin, CK_ULONG pin_len,
	const CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG cap) {
	return hot_operate(u->f->C_SignInit, u->f->C_Sign, u, pin, pin_len, in, n, out, cap);
}

static hot_answer hot_decrypt(const hot_use *u, const CK_BYTE *pin, CK_ULONG pin_len,
	const CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG cap) {
	return hot_operate(u->f->C_DecryptInit, u->f->C_Decrypt, u, pin, pin_len, in, n, out, cap);
}

#endif
