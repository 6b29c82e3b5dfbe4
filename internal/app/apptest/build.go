package apptest

import (
	"fmt"
	"os"
	"os/exec"
)

// Build puts the program, built with flags of go build, into the file to. It is the executable of go run, which go
// keeps until something of it changes: linking takes as long as many a test.
func Build(to string, flags ...string) error {
	const target = "FRESHET_BUILD_TO"
	args := append([]string{"run", "-exec", `sh -c 'cp "$0" "$` + target + `"'`}, flags...)
	cmd := exec.Command("go", append(args, "freshet/cmd/freshet")...)
	cmd.Env = append(os.Environ(), target+"="+to)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}
