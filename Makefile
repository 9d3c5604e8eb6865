# `make` alone lists what can be made.
.DEFAULT_GOAL := help
.PHONY: help run build test test-llama format lint bench packages swift

DEV_FLAGS ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: packages swift ## Install what is missing, build, and start everything with a demo tenant (DEV_FLAGS="--port 9000")
	swift build -c release --product weir
	.build/release/weir dev $(DEV_FLAGS)

build: swift ## Build the release binary, .build/release/weir
	swift build -c release --product weir

test: swift ## Install what the tests need, start PostgreSQL and Redis for them, and run all of them
	@scripts/test

test-llama: swift ## Build llama.cpp's server once, and test Weir in front of it with the openai package
	swift build --product weir
	@scripts/test-llama

format: swift ## Format all Swift files in place
	swift format --in-place --parallel --recursive Sources Tests Package.swift

lint: swift ## Check format, imports and migrations
	scripts/check-format
	scripts/check-imports
	scripts/check-migrations

bench: packages swift ## Measure the gateway against nginx in one run
	Benchmarks/run

packages:
	@scripts/install-packages

swift:
	@scripts/check-swift
