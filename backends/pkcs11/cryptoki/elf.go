package cryptoki

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"signetd/signer"
)

// CheckModule returns why path cannot be a PKCS#11 module, as far as that shows without
// loading it. Loading runs the library's code, and the error of the loader for a library
// of another machine is misleading. The error wraps signer.ErrUnavailable and needs the
// operator.
func CheckModule(path string) error { return signer.NeedsOperator(checkModule(path)) }

func checkModule(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: pkcs11 module %s does not exist", signer.ErrUnavailable, path)
	}
	if err != nil {
		return fmt.Errorf("%w: pkcs11 module: %w", signer.ErrUnavailable, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: pkcs11 module %s is not a file", signer.ErrUnavailable, path)
	}

	if runtime.GOOS != "linux" {
		return nil
	}
	if err := checkELF(path); err != nil {
		return fmt.Errorf("%w: pkcs11 module %s %w", signer.ErrUnavailable, path, err)
	}
	return nil
}

func checkELF(path string) error {
	f, err := elf.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return errors.New("is not readable by this user")
	}
	if err != nil {
		return fmt.Errorf("is not a shared library: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read

	if self, err := elf.Open("/proc/self/exe"); err == nil {
		machine := self.Machine
		_ = self.Close()
		if f.Machine != machine {
			return fmt.Errorf("is built for %v, this process for %v", f.Machine, machine)
		}
	}

	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("is not a PKCS#11 module: %w", err)
	}
	exported := func(s elf.Symbol) bool { return s.Name == "C_GetFunctionList" && s.Section != elf.SHN_UNDEF }
	if !slices.ContainsFunc(symbols, exported) {
		return errors.New("is not a PKCS#11 module: it has no C_GetFunctionList")
	}
	return nil
}
