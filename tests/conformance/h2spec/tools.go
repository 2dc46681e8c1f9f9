//go:build tools

// Package tools names the program that script/conformance builds: h2spec has no go.mod, so ours says the versions.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
