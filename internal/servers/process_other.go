//go:build !linux

package servers

import "syscall"

// childAttributes put a child into a process group of its own. Only Linux can tie its life to ours: elsewhere a server
// stays behind when this process is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
