# Isthmus. `make help` lists the targets.
#
#   B=DIR      where everything is built (default: build)
#   SAN=LIST   sanitizers, for example SAN=address,undefined or SAN=thread
#   CC=clang   another compiler

B       ?= build
SAN     ?=
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# All cores build, unless make was told how many (-j).
JOBS = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

PACKAGES := libuv libwebsockets openssl jansson libnghttp2 yaml-0.1 hiredis
TEST_PACKAGES := $(PACKAGES) cmocka

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wformat=2 -Wimplicit-fallthrough -Wundef -Wpointer-arith -Wcast-align -Wvla
HARDEN   := -fstack-protector-strong -fPIE -fcf-protection -fno-strict-aliasing
ifeq ($(SAN),)
OPTIMIZE := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-clash-protection
else
OPTIMIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN)
LDFLAGS  += -fsanitize=$(SAN)
endif
# rediss:// needs hiredis' SSL library, which Debian 12 does not have.
ifneq ($(shell pkg-config --exists hiredis_ssl 2>/dev/null && echo yes),)
PACKAGES += hiredis_ssl
CPPFLAGS += -DHAVE_HIREDIS_SSL
endif
CPPFLAGS += -D_GNU_SOURCE -Iinclude -I. -MMD -MP
CFLAGS   += -std=gnu11 $(OPTIMIZE) $(WARNINGS) $(HARDEN) $(EXTRA_CFLAGS)
LDFLAGS  += -pie -Wl,-z,relro,-z,now
# Asked once, and only when something is built: a fresh machine gets the packages first.
PKG_CFLAGS = $(shell pkg-config --cflags $(TEST_PACKAGES))
PKG_LIBS   = $(shell pkg-config --libs $(PACKAGES))
# Debian's libwslay comes without a .pc file.
TEST_LIBS  = -lwslay -lhttp_parser $(shell pkg-config --libs cmocka)

objects = $(patsubst %.c,$(B)/obj/%.o,$(wildcard $(1)))

BASE      := $(call objects,base/*.c)
APICLIENT := $(call objects,apiclient/*.c)
BALANCER  := $(call objects,balancer/*.c)
HUB       := $(call objects,hub/*.c)
HUB_LIB   := $(filter-out $(B)/obj/hub/main.o,$(HUB))
DEVAPI    := $(call objects,test/devapi/*.c)
EDGESIM   := $(call objects,test/edgesim/*.c)
SIM       := $(call objects,test/sim/*.c)
TESTLIB   := $(call objects,test/lib/*.c)
BENCH     := $(patsubst test/bench/%.c,$(B)/bench/%,$(wildcard test/bench/*.c))
UNIT      := $(patsubst test/unit/%.c,$(B)/unit/%,$(wildcard test/unit/test_*.c))
FUZZ      := $(patsubst test/fuzz/%.c,$(B)/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))

# What links against everything: the libraries in order of dependency, and the simulators' own parts without their main.
LIBS := $(B)/libhub.a $(B)/libbalancer.a $(B)/libapiclient.a $(B)/libbase.a
PARTS := $(B)/libtest.a

.PHONY: all build run test test-long e2e bench bench-peer sim unit lint format fuzz asan tsan clean help deps
all: build

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## make build       the programs: isthmus, devapi, edgesim (in build/)
build: deps
	@$(MAKE) $(JOBS) --no-print-directory programs
deps:
	@scripts/deps.sh build
.PHONY: programs
programs: $(B)/isthmus $(B)/devapi $(B)/edgesim $(if $(SIM),$(B)/balance-sim)

## make run         a development API server, three replicas and a fleet of simulated edges, live in the terminal
run:
	@scripts/deps.sh run
	@$(MAKE) $(JOBS) --no-print-directory programs
	@exec env B=$(B) scripts/run.sh

## make test        everything that needs no Go: unit, golden, system, simulation
test:
	@scripts/deps.sh test fuzz
	@$(MAKE) $(JOBS) --no-print-directory programs units fuzzers benches
	@B=$(B) test/run.sh

## make test-long   what takes its time
test-long:
	@scripts/deps.sh test fuzz
	@$(MAKE) $(JOBS) --no-print-directory programs units fuzzers benches
	@B=$(B) test/run.sh --long

## make e2e         a real kube-apiserver, etcd and EdgeCore through the hub (needs Go)
e2e:
	@scripts/deps.sh e2e
	@$(MAKE) $(JOBS) --no-print-directory programs
	@B=$(B) test/e2e/run.sh

## make bench       the table of the design's numbers, measured on this machine in one run
bench:
	@scripts/deps.sh test
	@$(MAKE) $(JOBS) --no-print-directory programs benches
	@B=$(B) test/bench/run.sh

## make bench-peer  CloudCore and Isthmus under the same load, side by side (needs Go)
bench-peer:
	@scripts/deps.sh e2e
	@$(MAKE) $(JOBS) --no-print-directory programs
	@B=$(B) test/bench/peer.sh

## make sim         the balancer's plan against a simulated fleet, many seeds
sim:
	@scripts/deps.sh build
	@$(MAKE) $(JOBS) --no-print-directory $(B)/balance-sim
	@$(B)/balance-sim

.PHONY: units fuzzers benches
units: $(UNIT)
fuzzers: $(FUZZ)
benches: $(BENCH)

## make unit        only the unit tests
unit:
	@scripts/deps.sh test
	@$(MAKE) $(JOBS) --no-print-directory units
	@B=$(B) test/run.sh --only unit

## make fuzz        a minute for every fuzz target
fuzz:
	@scripts/deps.sh test fuzz
	@$(MAKE) $(JOBS) --no-print-directory fuzzers
	@B=$(B) test/fuzz/run.sh 60

## make lint        clang-format, clang-tidy, shellcheck, headers, tables in the documents
lint:
	@scripts/deps.sh lint
	@$(MAKE) $(JOBS) --no-print-directory $(B)/doc-tables
	@B=$(B) scripts/lint.sh

## make docs        the documents' tables of flags and metrics, from the program's own
.PHONY: docs
docs:
	@scripts/deps.sh build
	@$(MAKE) $(JOBS) --no-print-directory $(B)/doc-tables
	@B=$(B) scripts/doc-tables.sh

format:
	@clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(B)

# --- how things are built -------------------------------------------------------------------------------------------

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -c -o $@ $<

# The version changes with every commit; only one file knows it, and is made anew then.
$(B)/obj/base/version.o: CPPFLAGS += -DISTHMUS_VERSION='"$(VERSION)"'
$(B)/obj/base/version.o: $(B)/gen/version
$(B)/gen/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@
.PHONY: FORCE

# The status page is part of the program.
$(B)/obj/hub/status_page.o: CPPFLAGS += -I$(B)/gen
$(B)/obj/hub/status_page.o: $(B)/gen/status_page.inc
# So is the script that runs in Redis.
$(B)/obj/balancer/beat_script.o: CPPFLAGS += -I$(B)/gen
$(B)/obj/balancer/beat_script.o: $(B)/gen/beat.inc
AS_BYTES = od -An -v -tx1 $< | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g' >$@
$(B)/gen/%.inc: hub/%.html
	@mkdir -p $(@D)
	$(AS_BYTES)
$(B)/gen/%.inc: balancer/%.lua
	@mkdir -p $(@D)
	$(AS_BYTES)

$(B)/libbase.a: $(BASE)
$(B)/libapiclient.a: $(APICLIENT)
$(B)/libbalancer.a: $(BALANCER)
$(B)/libhub.a: $(HUB_LIB)
$(B)/libtest.a: $(TESTLIB) $(filter-out %/main.o,$(DEVAPI) $(EDGESIM) $(SIM))
$(B)/%.a:
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/isthmus: $(B)/obj/hub/main.o $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(B)/obj/hub/main.o $(LIBS) $(PKG_LIBS) -lpthread -lm

$(B)/devapi: $(DEVAPI) $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(DEVAPI) $(LIBS) $(PKG_LIBS) -lhttp_parser -lpthread -lm

$(B)/edgesim: $(EDGESIM) $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(EDGESIM) $(LIBS) $(PKG_LIBS) $(TEST_LIBS) -lpthread -lm

$(B)/balance-sim: $(SIM) $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(SIM) $(B)/libbalancer.a $(B)/libbase.a $(PKG_LIBS) -lpthread -lm

$(B)/doc-tables: $(B)/obj/test/tools/doc_tables.o $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $< $(LIBS) $(PKG_LIBS) -lpthread -lm

# A unit test can reach every module; --wrap lets it make the n-th allocation fail (test/lib/heap.h).
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
$(B)/unit/%: $(B)/obj/test/unit/%.o $(PARTS) $(LIBS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(WRAP) -o $@ $< $(B)/obj/test/lib/heap.o $(PARTS) $(LIBS) $(PKG_LIBS) $(TEST_LIBS) -lpthread -lm

$(B)/bench/%: $(B)/obj/test/bench/%.o $(PARTS) $(LIBS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $< $(PARTS) $(LIBS) $(PKG_LIBS) $(TEST_LIBS) -lpthread -lm

# Fuzz targets are compiled whole by clang, with the sources they name in their first lines: "fuzz-sources: a.c b.c".
$(B)/fuzz/%: test/fuzz/%.c $(wildcard base/*.c hub/*.c apiclient/*.c balancer/*.c) $(wildcard include/isthmus/*.h hub/*.h balancer/*.h)
	@mkdir -p $(@D)
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -D_GNU_SOURCE -Iinclude -I. \
	  -Wno-gnu-zero-variadic-macro-arguments -o $@ $< $$(sed -n 's/^.*fuzz-sources: *//p' $< | sed 's,\*/,,') \
	  $$(pkg-config --cflags --libs jansson yaml-0.1 libuv openssl hiredis) -lpthread

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
