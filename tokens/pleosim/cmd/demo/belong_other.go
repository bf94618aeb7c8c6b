//go:build !linux

package main

import "syscall"

// belong gives a child a process group of its own, so that Ctrl-C reaches this
// program alone and the children end in order. Only Linux can also end them when
// this program is killed with -9.
func belong() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
