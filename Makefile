SHELL := bash
.SHELLFLAGS := -o pipefail -ec
MAKEFLAGS += --no-print-directory
.PHONY: help test check fmt vet lint tidy build vuln steps demo bench fuzz clean

# Tools have a module of their own, so that the product's go.sum stays clean.
TOOL := go tool -modfile=.ci/tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# How long fuzz works on each target.
FUZZTIME ?= 10s
# What check runs, in this order. .ci/run walks the same list.
CHECKS := fmt vet lint tidy build test vuln

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

test: ## run all tests with the race detector
	@.ci/need gcc
	@.ci/need -optional redis-server
	CGO_ENABLED=1 go test -race -shuffle=on -json ./... | go run .ci/tools/testlines.go

check: $(CHECKS) ## everything a change must pass: format, lint, tests, build, known holes

fmt: ## name the files that gofmt would change
	@list=$$(gofmt -l .); [ -z "$$list" ] || { echo "gofmt would change:"; echo "$$list"; exit 1; }

vet: ## run go vet
	go vet ./...
	go -C .ci/tools vet .

lint: ## run staticcheck with all its checks, and errorlint
	$(TOOL) staticcheck -checks all,-ST1000 ./...
	$(TOOL) go-errorlint ./...

tidy: ## hold go.mod and go.sum to what is imported
	go mod tidy -diff
	go -C .ci/tools mod tidy -diff

build: ## build bin/pleo-sidecar, static
	@$(GOBUILD) -o bin/pleo-sidecar .

vuln: ## look for known holes in the database VULNDB: file:///dir, or online
	$(if $(VULNDB),$(TOOL) govulncheck $(addprefix -db ,$(filter-out online,$(VULNDB))) ./...,@echo "skipped: VULNDB names no database of known holes")

demo: build ## see it work: simulated Pleo, sidecar and callers; ONCE=1 ends by itself
	@$(GOBUILD) -o bin/ ./tokens/pleosim/cmd/...
	@exec bin/demo $(if $(ONCE),-once)

bench: ## measure the hot path
	go test -run '^$$' -bench . -benchmem ./tokens ./proxy

fuzz: ## fuzz every target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

clean: ## remove what was built
	rm -rf bin dist coverage.out

steps:
	@echo $(CHECKS)
