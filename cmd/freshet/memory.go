package main

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// gcPercent lets the heap grow to four times what is in use before it is collected. A read makes some 50 kB of
	// garbage, most of it the block of the feed as Redis answers it, and the Go default spent a sixth of the CPU time of
	// reads on collecting it.
	gcPercent = 300
	// memoryShare is the part of the machine's memory from which on the collector works as hard as it must.
	memoryShare = 0.5
)

// tuneMemory sets what GOGC and GOMEMLIMIT leave open.
func tuneMemory(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if total := machineMemory(); getenv("GOMEMLIMIT") == "" && total > 0 {
		debug.SetMemoryLimit(int64(memoryShare * float64(total)))
	}
}

// machineMemory is the bytes that the machine, or the container, has; 0 where the system does not tell.
func machineMemory() int64 {
	total := int64(0)
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close() //nolint:errcheck // it was only read
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "MemTotal:" {
				kB, err := strconv.ParseInt(fields[1], 10, 64)
				if err == nil {
					total = kB << 10
				}
			}
		}
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max": none
		if err == nil && (total == 0 || limit < total) {
			total = limit
		}
	}
	return total
}
