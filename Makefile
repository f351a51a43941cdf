# make / make build   publish the release binary to artifacts/blockmount
# make run            a demonstration that leaves nothing behind
# make test           every suite; ends with "N passed, N failed, N skipped"
# make test-quick     the unit tests alone
# make soak           the random suites for SECONDS=n (600), with fresh seeds
# make bench          compare with QEMU, nbdkit and the native file (25 minutes), write docs/benchmarks.md; variables: scripts/bench
# make bench-quick    a look at some of it in under two minutes, nothing written
# make install        DESTDIR= PREFIX=/usr/local
PREFIX ?= /usr/local
DOTNET ?= dotnet
export DOTNET_CLI_TELEMETRY_OPTOUT = 1
export DOTNET_NOLOGO = 1
# Build servers would outlive the command.
export MSBUILDDISABLENODEREUSE = 1
export DOTNET_CLI_USE_MSBUILD_SERVER = 0

PUBLISH = $(DOTNET) publish src/BlockMount.Daemon -c Release -nodeReuse:false -p:UseSharedCompilation=false --nologo -v quiet
SOURCES = $(shell find src -name obj -prune -o -name bin -prune -o \( -name '*.cs' -o -name '*.csproj' \) -print) \
          Directory.Build.props Directory.Packages.props global.json .editorconfig

.PHONY: build run test test-quick soak bench bench-quick install uninstall aot format clean

build: artifacts/blockmount
	@:

artifacts/blockmount: $(SOURCES)
	@mkdir -p artifacts
	$(PUBLISH) -o artifacts/publish
	@cp artifacts/publish/libMonoPosixHelper.so artifacts/
	@cp artifacts/publish/blockmount $@.new && mv -f $@.new $@
	@rm -rf artifacts/publish
	@ls -l $@ | awk '{ printf "artifacts/blockmount: %.1f MB\n", $$5 / 1e6 }'

run:
	@scripts/demo

test:
	@scripts/test

test-quick:
	@scripts/test --quick

SECONDS ?= 600
soak:
	@scripts/soak $(SECONDS)

bench: build
	@scripts/bench

bench-quick: build
	@scripts/bench --quick

install: build
	install -d $(DESTDIR)$(PREFIX)/lib/blockmount $(DESTDIR)$(PREFIX)/bin
	install -m 755 artifacts/blockmount $(DESTDIR)$(PREFIX)/lib/blockmount/blockmount
	install -m 644 artifacts/libMonoPosixHelper.so $(DESTDIR)$(PREFIX)/lib/blockmount/libMonoPosixHelper.so
	ln -sfn ../lib/blockmount/blockmount $(DESTDIR)$(PREFIX)/bin/blockmount

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/blockmount
	rm -rf $(DESTDIR)$(PREFIX)/lib/blockmount

# Native AOT needs the package Microsoft.NETCore.App.Runtime.NativeAOT.linux-x64, which not every registry mirror has.
aot:
	@mkdir -p artifacts
	@$(PUBLISH) -p:PublishAot=true -p:PublishSingleFile=false -p:PublishReadyToRun=false -o artifacts/aot \
	  || { echo "make aot: needs clang or gcc, zlib1g-dev, and a NuGet source that has the Native AOT packages of .NET 10" >&2; exit 1; }
	@echo "artifacts/aot/blockmount"

format:
	$(DOTNET) format BlockMount.sln --verify-no-changes

clean:
	rm -rf artifacts
	find src tests -type d \( -name bin -o -name obj -o -name TestResults \) -prune -exec rm -rf {} +
