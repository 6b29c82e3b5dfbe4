package servers

import "syscall"

// childAttributes put a child into a process group of its own, and have the kernel kill it when this process ends,
// however it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
