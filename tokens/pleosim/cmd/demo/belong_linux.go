package main

import "syscall"

// belong gives a child a process group of its own, so that Ctrl-C reaches this
// program alone and the children end in order; and ends it with us, kill -9
// included.
func belong() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
