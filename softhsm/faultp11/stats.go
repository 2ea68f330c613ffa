package faultp11

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// The stats file has one line for the heading and one for each record, which is a name and
// five counters. module/faultp11.c has the same numbers.
const (
	recordBytes = 64
	nameBytes   = 24
)

// records holds the names of the records in the order of the stats file.
var records = append(strings.Fields(`
	C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo C_GetTokenInfo C_GetMechanismList
	C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo
	C_GetOperationState C_SetOperationState C_Login C_Logout C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize
	C_GetAttributeValue C_SetAttributeValue C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt
	C_EncryptUpdate C_EncryptFinal C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit C_Digest
	C_DigestUpdate C_DigestKey C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit C_SignRecover
	C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate
	C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey C_UnwrapKey
	C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction C_WaitForSlotEvent`),
	"sessions", "left-open", "busy-close", "busy-logout", "busy-finalize", "shared-session", "control", "control-errors")

// emptyStats returns the stats file as the module would make it.
func emptyStats() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s%7s %7s %7s %7s %7s\n", "#", "calls", "queries", "faults", "failed", "running")
	for _, name := range records {
		fmt.Fprintf(&b, "%-24s%7d %7d %7d %7d %7d\n", name, 0, 0, 0, 0, 0)
	}
	return []byte(b.String())
}

func mapFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0) // #nosec G304 -- made by New
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return syscall.Mmap(int(f.Fd()), 0, recordBytes*(len(records)+1), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

// decode reads a counter: seven digits, right-justified, and a space or newline.
func decode(cell uint64) int {
	text := binary.NativeEndian.AppendUint64(nil, cell)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

func encode(n int, last byte) uint64 {
	return binary.NativeEndian.Uint64(append(fmt.Appendf(nil, "%7d", n%10000000), last))
}
