/*
 * The calls into a PKCS#11 module that each request needs: one C function for
 * each operation. See fastcall.go.
 *
 * Nothing here allocates, keeps a pointer, or calls back. Outputs go into the
 * caller's buffer, which is wiped when the operation fails.
 *
 * Names, types and numbers are those of PKCS #11 Cryptographic Token Interface
 * Base Specification Version 2.40: general data types in section 3, functions
 * in section 5, and the packing and calling convention of Unix, which are the
 * platform's own (section 2.1).
 */
#ifndef SIGNETD_CRYPTOKI_FASTCALL_H
#define SIGNETD_CRYPTOKI_FASTCALL_H

#include <dlfcn.h>
#include <string.h>

typedef unsigned char CK_BYTE;  /* also CK_BBOOL */
typedef unsigned long CK_ULONG; /* also CK_RV, CK_FLAGS, handles and types */

typedef struct { CK_BYTE major, minor; } CK_VERSION;                             /* section 3.1 */
typedef struct { CK_ULONG type; const void *value; CK_ULONG len; } CK_ATTRIBUTE; /* section 3.3 */
typedef struct { CK_ULONG mechanism; const void *params; CK_ULONG len; } CK_MECHANISM; /* section 3.5 */

/* Parameters of mechanisms, of the Current Mechanisms Specification Version 2.40. */
typedef struct { CK_BYTE *iv; CK_ULONG iv_len, iv_bits; const CK_BYTE *aad; CK_ULONG aad_len, tag_bits; } CK_GCM_PARAMS; /* section 2.12.3 */
typedef struct { CK_ULONG kdf, shared_len; const CK_BYTE *shared; CK_ULONG point_len; const CK_BYTE *point; } CK_ECDH1_DERIVE_PARAMS; /* section 2.3.9 */

typedef CK_ULONG (*ck_login)(CK_ULONG session, CK_ULONG user, const CK_BYTE *pin, CK_ULONG len);
typedef CK_ULONG (*ck_init)(CK_ULONG session, CK_MECHANISM *m, CK_ULONG key);
typedef CK_ULONG (*ck_operate)(CK_ULONG session, const CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *len);
typedef CK_ULONG (*ck_create)(CK_ULONG session, CK_ATTRIBUTE *t, CK_ULONG n, CK_ULONG *object);
typedef CK_ULONG (*ck_destroy)(CK_ULONG session, CK_ULONG object);
typedef CK_ULONG (*ck_attributes)(CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *t, CK_ULONG n);
typedef CK_ULONG (*ck_wrap)(CK_ULONG session, CK_MECHANISM *m, CK_ULONG key, CK_ULONG object, CK_BYTE *out, CK_ULONG *len);
typedef CK_ULONG (*ck_unwrap)(CK_ULONG session, CK_MECHANISM *m, CK_ULONG key, const CK_BYTE *in, CK_ULONG n, CK_ATTRIBUTE *t, CK_ULONG count, CK_ULONG *object);
typedef CK_ULONG (*ck_derive)(CK_ULONG session, CK_MECHANISM *m, CK_ULONG key, CK_ATTRIBUTE *t, CK_ULONG n, CK_ULONG *object);

/* CK_FUNCTION_LIST (section 3.6); functions that are not called here have no type. */
typedef struct {
	CK_VERSION version;
	void *C_Initialize, *C_Finalize, *C_GetInfo, *C_GetFunctionList, *C_GetSlotList, *C_GetSlotInfo,
		*C_GetTokenInfo, *C_GetMechanismList, *C_GetMechanismInfo, *C_InitToken, *C_InitPIN, *C_SetPIN,
		*C_OpenSession, *C_CloseSession, *C_CloseAllSessions, *C_GetSessionInfo, *C_GetOperationState,
		*C_SetOperationState;
	ck_login C_Login;
	void *C_Logout;
	ck_create C_CreateObject;
	void *C_CopyObject;
	ck_destroy C_DestroyObject;
	void *C_GetObjectSize;
	ck_attributes C_GetAttributeValue;
	void *C_SetAttributeValue, *C_FindObjectsInit, *C_FindObjects, *C_FindObjectsFinal;
	ck_init C_EncryptInit;
	ck_operate C_Encrypt;
	void *C_EncryptUpdate, *C_EncryptFinal;
	ck_init C_DecryptInit;
	ck_operate C_Decrypt;
	void *C_DecryptUpdate, *C_DecryptFinal, *C_DigestInit, *C_Digest, *C_DigestUpdate, *C_DigestKey,
		*C_DigestFinal;
	ck_init C_SignInit;
	ck_operate C_Sign;
	void *C_SignUpdate, *C_SignFinal, *C_SignRecoverInit, *C_SignRecover, *C_VerifyInit, *C_Verify,
		*C_VerifyUpdate, *C_VerifyFinal, *C_VerifyRecoverInit, *C_VerifyRecover, *C_DigestEncryptUpdate,
		*C_DecryptDigestUpdate, *C_SignEncryptUpdate, *C_DecryptVerifyUpdate, *C_GenerateKey,
		*C_GenerateKeyPair;
	ck_wrap C_WrapKey;
	ck_unwrap C_UnwrapKey;
	ck_derive C_DeriveKey;
} fast_functions; /* the functions after it are not called here */

enum { CKU_CONTEXT_SPECIFIC = 2, CKR_BUFFER_TOO_SMALL = 0x150, CKR_WRAPPED_KEY_LEN_RANGE = 0x112 };
enum { CKO_SECRET_KEY = 4, CKK_GENERIC_SECRET = 0x10, CKK_AES = 0x1f };
enum {
	CKA_CLASS = 0, CKA_TOKEN = 1, CKA_VALUE = 0x11, CKA_KEY_TYPE = 0x100, CKA_SENSITIVE = 0x103,
	CKA_DECRYPT = 0x105, CKA_VALUE_LEN = 0x161, CKA_EXTRACTABLE = 0x162
};
enum { CKM_ECDH1_DERIVE = 0x1050, CKM_AES_GCM = 0x1087, CKD_NULL = 1 };

/* The steps of an operation, to tell which call failed. */
enum { FAST_INIT = 1, FAST_LOGIN, FAST_OPERATION, FAST_MAKE, FAST_READ, FAST_CONTENT_INIT, FAST_CONTENT, FAST_DESTROY };

/* The last answer of the module, the step that it came in, and the length of the output. */
typedef struct { CK_ULONG rv, step, out; } fast_answer;

typedef struct { const CK_BYTE *p; CK_ULONG n; } fast_bytes;
typedef struct { CK_BYTE *p; CK_ULONG n; } fast_buffer;

/* A key and what to do with it. */
typedef struct {
	const fast_functions *f;
	CK_ULONG session, mechanism;
	CK_ULONG params[5]; /* a parameter without pointers, or with NULL alone */
	CK_ULONG params_len, key;
} fast_use;

/* What AES-GCM works on beside the text. The IV has 12 bytes and the tag 16. A
 * module that makes its own IV writes it to iv. iv is NULL for other mechanisms. */
typedef struct { CK_BYTE *iv; fast_bytes aad; } fast_gcm;

/* The template of a session object. It says that the value may be read, that it
 * stays in the token, or neither: modules differ in what they allow. */
enum { FAST_READABLE = 1, FAST_HIDDEN, FAST_UNSPECIFIED };
typedef struct { CK_ULONG key_type, access, value_len; } fast_object; /* a value_len of 0 is left out */

/* On failure returns NULL, with the loader's error text in *why or the module's
 * answer in *rv. */
static fast_functions *fast_load(const char *path, const char **why, CK_ULONG *rv) {
	fast_functions *f = NULL;
	void *lib = dlopen(path, RTLD_NOW); /* never closed: the module's threads may still run */
	if (lib == NULL) {
		*why = dlerror();
		return NULL;
	}

	CK_ULONG (*list)(fast_functions **) = (CK_ULONG (*)(fast_functions **))dlsym(lib, "C_GetFunctionList");
	if (list == NULL) {
		*why = dlerror();
		return NULL;
	}
	*rv = list(&f);
	return *rv == 0 ? f : NULL;
}

static CK_ULONG fast_login(const fast_functions *f, CK_ULONG session, CK_ULONG user, const CK_BYTE *pin, CK_ULONG len) {
	return f->C_Login(session, user, pin, len);
}

static CK_MECHANISM fast_mechanism(const fast_use *u) {
	CK_MECHANISM m = {u->mechanism, u->params_len ? u->params : NULL, u->params_len};
	return m;
}

/* Ends every operation. If it failed, out is wiped. */
static fast_answer fast_end(fast_answer a, fast_buffer out) {
	if (a.rv == 0 && a.out > out.n) a.rv = CKR_BUFFER_TOO_SMALL;
	if (a.rv != 0) {
		memset(out.p, 0, out.n);
		a.out = 0;
	}
	return a;
}

static fast_answer fast_operate(ck_init init, ck_operate operate, const fast_use *u, CK_MECHANISM m, fast_bytes pin,
	fast_bytes in, fast_buffer out) {
	fast_answer a = {0, FAST_INIT, out.n};
	a.rv = init(u->session, &m, u->key);
	if (a.rv == 0 && pin.p != NULL) {
		a.step = FAST_LOGIN;
		a.rv = u->f->C_Login(u->session, CKU_CONTEXT_SPECIFIC, pin.p, pin.n);
	}
	if (a.rv == 0) {
		a.step = FAST_OPERATION;
		a.rv = operate(u->session, in.p != NULL ? in.p : (const CK_BYTE *)"", in.n, out.p, &a.out);
	}
	return fast_end(a, out);
}

static fast_answer fast_sign(const fast_use *u, fast_bytes pin, fast_bytes in, fast_buffer out) {
	return fast_operate(u->f->C_SignInit, u->f->C_Sign, u, fast_mechanism(u), pin, in, out);
}

static CK_GCM_PARAMS fast_gcm_params(fast_gcm g) {
	CK_GCM_PARAMS p = {g.iv, 12, 96, g.aad.p, g.aad.n, 128};
	return p;
}

/* Decrypts, or encrypts if seal is set. */
static fast_answer fast_cipher(const fast_use *u, int seal, fast_bytes pin, fast_gcm g, fast_bytes in, fast_buffer out) {
	CK_GCM_PARAMS params = fast_gcm_params(g);
	CK_MECHANISM m = fast_mechanism(u);
	if (g.iv != NULL) {
		m.params = &params;
		m.len = sizeof params;
	}
	return seal ? fast_operate(u->f->C_EncryptInit, u->f->C_Encrypt, u, m, pin, in, out)
		: fast_operate(u->f->C_DecryptInit, u->f->C_Decrypt, u, m, pin, in, out);
}

static CK_ATTRIBUTE fast_attribute(CK_ULONG type, const void *value, CK_ULONG len) {
	CK_ATTRIBUTE a = {type, value, len};
	return a;
}

/* Fills in a template of at most 8 attributes, which point into o, and returns
 * their number. */
static CK_ULONG fast_template(const fast_object *o, CK_ATTRIBUTE *t) {
	static const CK_ULONG secret = CKO_SECRET_KEY;
	static const CK_BYTE yes = 1, no = 0;
	CK_ULONG n = 0;
	t[n++] = fast_attribute(CKA_CLASS, &secret, sizeof secret);
	t[n++] = fast_attribute(CKA_KEY_TYPE, &o->key_type, sizeof o->key_type);
	t[n++] = fast_attribute(CKA_TOKEN, &no, sizeof no);
	if (o->access != FAST_UNSPECIFIED) {
		t[n++] = fast_attribute(CKA_SENSITIVE, o->access == FAST_HIDDEN ? &yes : &no, sizeof yes);
		t[n++] = fast_attribute(CKA_EXTRACTABLE, o->access == FAST_HIDDEN ? &no : &yes, sizeof yes);
	}
	if (o->key_type == CKK_AES) t[n++] = fast_attribute(CKA_DECRYPT, &yes, sizeof yes);
	if (o->value_len != 0) t[n++] = fast_attribute(CKA_VALUE_LEN, &o->value_len, sizeof o->value_len);
	return n;
}

/* Destroys a session object, whether its use failed or not. If it cannot be
 * destroyed, that is the error to report, because the session must be closed. */
static void fast_destroy(const fast_use *u, CK_ULONG object, fast_answer *a) {
	CK_ULONG rv = u->f->C_DestroyObject(u->session, object);
	if (rv != 0) {
		a->rv = rv;
		a->step = FAST_DESTROY;
	}
}

/* Reads the value of a new session object and destroys it. */
static fast_answer fast_take(const fast_use *u, CK_ULONG object, fast_buffer out) {
	CK_ATTRIBUTE value = {CKA_VALUE, out.p, out.n};
	fast_answer a = {0, FAST_READ, 0};
	a.rv = u->f->C_GetAttributeValue(u->session, object, &value, 1);
	a.out = value.len; /* CK_UNAVAILABLE_INFORMATION is larger than any buffer */
	fast_destroy(u, object, &a);
	return fast_end(a, out);
}

static fast_answer fast_unwrap(const fast_use *u, fast_object o, fast_bytes wrapped, fast_buffer out) {
	CK_ATTRIBUTE t[8];
	CK_MECHANISM m = fast_mechanism(u);
	CK_ULONG object = 0;
	fast_answer a = {0, FAST_MAKE, 0};
	a.rv = u->f->C_UnwrapKey(u->session, &m, u->key, wrapped.p, wrapped.n, t, fast_template(&o, t), &object);
	return a.rv == 0 ? fast_take(u, object, out) : fast_end(a, out);
}

static fast_answer fast_derive(const fast_use *u, fast_object o, fast_bytes point, fast_buffer out) {
	CK_ATTRIBUTE t[8];
	CK_ECDH1_DERIVE_PARAMS params = {CKD_NULL, 0, NULL, point.n, point.p};
	CK_MECHANISM m = {CKM_ECDH1_DERIVE, &params, sizeof params};
	CK_ULONG object = 0;
	fast_answer a = {0, FAST_MAKE, 0};
	a.rv = u->f->C_DeriveKey(u->session, &m, u->key, t, fast_template(&o, t), &object);
	return a.rv == 0 ? fast_take(u, object, out) : fast_end(a, out);
}

/* Decrypts with a new session object that must be a key of size bytes. Not every
 * module tells the size: in SoftHSM2 an unwrapped key has no CKA_VALUE_LEN. */
static fast_answer fast_use_cek(const fast_use *u, CK_ULONG object, CK_ULONG size, fast_gcm g, fast_bytes in, fast_buffer out) {
	CK_GCM_PARAMS params = fast_gcm_params(g);
	CK_MECHANISM m = {CKM_AES_GCM, &params, sizeof params};
	CK_ULONG len = 0;
	CK_ATTRIBUTE value_len = {CKA_VALUE_LEN, &len, sizeof len};
	fast_answer a = {CKR_WRAPPED_KEY_LEN_RANGE, FAST_CONTENT, out.n};

	if (u->f->C_GetAttributeValue(u->session, object, &value_len, 1) != 0) len = 0;
	if (len == 0 || len == size) {
		a.step = FAST_CONTENT_INIT;
		a.rv = u->f->C_DecryptInit(u->session, &m, object);
	}
	if (a.rv == 0) {
		a.step = FAST_CONTENT;
		a.rv = u->f->C_Decrypt(u->session, in.p, in.n, out.p, &a.out);
	}
	return a;
}

/* Unwraps a CEK of size bytes, which stays in the token, and decrypts in with it. */
static fast_answer fast_open(const fast_use *u, fast_object o, CK_ULONG size, fast_bytes wrapped, fast_gcm g, fast_bytes in, fast_buffer out) {
	CK_ATTRIBUTE t[8];
	CK_MECHANISM m = fast_mechanism(u);
	CK_ULONG object = 0;
	fast_answer a = {0, FAST_MAKE, 0};
	a.rv = u->f->C_UnwrapKey(u->session, &m, u->key, wrapped.p, wrapped.n, t, fast_template(&o, t), &object);
	if (a.rv == 0) {
		a = fast_use_cek(u, object, size, g, in, out);
		fast_destroy(u, object, &a);
	}
	return fast_end(a, out);
}

/* Wraps a value. C_WrapKey wraps objects only, so the value is one meanwhile. */
static fast_answer fast_wrap(const fast_use *u, fast_bytes value, fast_buffer out) {
	CK_ATTRIBUTE t[8];
	CK_MECHANISM m = fast_mechanism(u);
	fast_object o = {CKK_GENERIC_SECRET, FAST_READABLE, 0};
	CK_ULONG object = 0, n = fast_template(&o, t);
	fast_answer a = {0, FAST_MAKE, out.n};

	t[n++] = fast_attribute(CKA_VALUE, value.p, value.n);
	a.rv = u->f->C_CreateObject(u->session, t, n, &object);
	if (a.rv == 0) {
		a.step = FAST_OPERATION;
		a.rv = u->f->C_WrapKey(u->session, &m, u->key, object, out.p, &a.out);
		fast_destroy(u, object, &a);
	}
	return fast_end(a, out);
}

#endif
