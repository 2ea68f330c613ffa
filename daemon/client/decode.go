package client

import (
	"encoding/json"
	"fmt"
)

// decode reads the body of an answer into out. It reports no cause: its text could
// hold part of the answer.
func (a *answer) decode(out any) error {
	if json.Unmarshal(a.body, out) != nil {
		return fmt.Errorf("the answer is not what signetd's API has (%d bytes): client and daemon of different versions?", len(a.body))
	}
	return nil
}
