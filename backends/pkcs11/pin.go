package pkcs11

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"signetd/signer"
)

// maxPIN is an upper bound of the length of a PIN in bytes.
const maxPIN = 1024

// ReadPIN reads a PIN from a file, without the one newline that may end it. It refuses an
// empty PIN, and a file that users other than its owner and group may use. Errors wrap
// signer.ErrInvalid. The caller clears the result after use.
func ReadPIN(path string) ([]byte, error) {
	pin, err := readPIN(path)
	if err != nil {
		return nil, fmt.Errorf("%w: pin_file %s: %w", signer.ErrInvalid, path, err)
	}
	return pin, nil
}

func readPIN(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, errors.Unwrap(err) // the path is in the caller's text
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("its mode %#o lets every user in: chmod o= it", mode)
	}

	// One buffer, so that one clear wipes every copy of the PIN.
	buf := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(buf)
		return nil, err
	}

	pin := bytes.TrimSuffix(buf[:n], []byte("\n"))
	switch {
	case len(pin) == 0:
		return nil, errors.New("it is empty")
	case len(pin) > maxPIN:
		clear(buf)
		return nil, fmt.Errorf("it is longer than %d bytes", maxPIN)
	}
	return pin, nil
}
