import { chmodSync, closeSync, fstatSync, rmSync } from 'node:fs';
import process from 'node:process';
import { CodedError, messageOf, systemTimers } from '../../core/index.ts';
import { BROKEN, type EndWatch, type Host, type Mapping, NOTHING_YET, type OpenFile } from './host.ts';
import { FDS_MAX } from './protocol.ts';

type Koffi = typeof import('koffi');
/** What a foreign function returns: a `void *` is a bigint. */
type Foreign = (...args: unknown[]) => number;
type ForeignPointer = (...args: unknown[]) => bigint;

// Values of Linux, the same on x86-64 and arm64 (asm-generic).
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_FLAGS = 0o2000000 | 0o4000; // SOCK_CLOEXEC | SOCK_NONBLOCK
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_PEEK = 2;
const MSG_CTRUNC = 8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_NORESERVE = 0x4000;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const MFD_CLOEXEC_ALLOW_SEALING = 3;
const S_IFMT = 0o170000;
const EFD_FLAGS = 0o2000000 | 0o4000;
const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;
/** struct epoll_event is packed on x86 only. */
const EPOLL_EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const EPOLL_DATA = EPOLL_EVENT_BYTES - 8;
/** Ready file descriptors that one look takes. */
const EPOLL_EVENTS = 64;

/** struct sockaddr_un: the family, then the path with its final zero. */
const SUN_PATH = 2;
const SUN_PATH_BYTES = 108;

/** struct msghdr of 64-bit Linux. */
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const MSG_FLAGS = 48;
const MSGHDR_BYTES = 56;
/** struct cmsghdr: length, level, type; then the data. */
const CMSG_BYTES = 16;

/** Most bytes that one call moves. */
const DATA_BYTES = 4096;

/** Where the parts of a message lie in the block of native memory that all calls share. */
const IOV_AT = MSGHDR_BYTES;
const CONTROL_AT = IOV_AT + 16 + 8;
const CONTROL_BYTES = CMSG_BYTES + FDS_MAX * 4;
const DATA_AT = CONTROL_AT + CONTROL_BYTES;
const BLOCK_BYTES = DATA_AT + DATA_BYTES;

/** No view of more than 4 GiB can be made. */
const PIECE_BYTES = 2 ** 31;

/** What to do where koffi is not there. */
const HOW_TO_MEND = 'npm install koffi, beside powercut';

/**
 * Loads the package that calls into the C library.
 * @param load for tests
 * @throws CodedError EINVAL, one line with what to do, where there is none for this machine
 */
export async function openHost(load: () => Promise<Koffi> = () => import('koffi')): Promise<Host> {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    const machine = `${process.platform}-${process.arch}`;
    throw new CodedError('EINVAL', `vhost-user: expected Linux on x64 or arm64, got ${machine}: "serve nbd" runs here`);
  }
  let koffi: Koffi;
  try {
    koffi = await load();
  } catch (cause) {
    const why = messageOf(cause).split('\n')[0];
    throw new CodedError(
      'EINVAL',
      `vhost-user: the optional package koffi can't be loaded (${why}): ${HOW_TO_MEND}, or use "serve nbd", which needs none`,
      { cause },
    );
  }
  return new KoffiHost(koffi);
}

/** {@link Host} by foreign function calls. */
class KoffiHost implements Host {
  readonly #koffi: Koffi;
  readonly #block: unknown;
  readonly #address: bigint;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #one: Uint8Array = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  readonly #taken: Uint8Array = new Uint8Array(8);
  readonly #event: Uint8Array = new Uint8Array(EPOLL_EVENT_BYTES);
  readonly #events: Uint8Array = new Uint8Array(EPOLL_EVENT_BYTES * EPOLL_EVENTS);
  readonly #eventsView: DataView = new DataView(this.#events.buffer);
  readonly #watched = new Map<number, () => void>();
  readonly #epoll: number;
  #poll: { close(): void } | undefined;
  readonly #socket: Foreign;
  readonly #bind: Foreign;
  readonly #connectTo: Foreign;
  readonly #listenAt: Foreign;
  readonly #accept4: Foreign;
  readonly #recv: Foreign;
  readonly #recvmsg: Foreign;
  readonly #sendmsg: Foreign;
  readonly #fcntl: Foreign;
  readonly #mmap: ForeignPointer;
  readonly #munmap: Foreign;
  readonly #memfdCreate: Foreign;
  readonly #ftruncate: Foreign;
  readonly #eventfd: Foreign;
  readonly #epollCtl: Foreign;
  readonly #epollWait: Foreign;
  readonly #read: Foreign;
  readonly #write: Foreign;

  constructor(koffi: Koffi) {
    this.#koffi = koffi;
    const library = koffi.load(null);
    const find = (definition: string): Foreign => library.func(definition) as unknown as Foreign;
    this.#socket = find('int socket(int, int, int)');
    this.#bind = find('int bind(int, const void *, uint32_t)');
    this.#connectTo = find('int connect(int, const void *, uint32_t)');
    this.#listenAt = find('int listen(int, int)');
    this.#accept4 = find('int accept4(int, void *, void *, int)');
    this.#recv = find('intptr_t recv(int, void *, size_t, int)');
    this.#recvmsg = find('intptr_t recvmsg(int, void *, int)');
    this.#sendmsg = find('intptr_t sendmsg(int, const void *, int)');
    this.#fcntl = find('int fcntl(int, int, int)');
    this.#mmap = find('void *mmap(void *, size_t, int, int, int, int64_t)') as unknown as ForeignPointer;
    this.#munmap = find('int munmap(void *, size_t)');
    this.#memfdCreate = find('int memfd_create(const char *, unsigned int)');
    this.#ftruncate = find('int ftruncate(int, int64_t)');
    this.#eventfd = find('int eventfd(unsigned int, int)');
    this.#epollCtl = find('int epoll_ctl(int, int, int, void *)');
    this.#epollWait = find('int epoll_wait(int, void *, int, int)');
    this.#read = find('intptr_t read(int, void *, size_t)');
    this.#write = find('intptr_t write(int, const void *, size_t)');
    this.#block = koffi.alloc('uint8_t', BLOCK_BYTES);
    this.#address = koffi.address(this.#block);
    this.#bytes = new Uint8Array(koffi.view(this.#block, BLOCK_BYTES));
    this.#view = new DataView(this.#bytes.buffer);
    this.#epoll = this.#must('epoll_create1', find('int epoll_create1(int)')(EPOLL_CLOEXEC));
  }

  listen(path: string): number {
    const address = addressOf(path);
    const fd = this.#must('socket', this.#socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0));
    if (this.#bind(fd, address, address.length) !== 0 || this.#listenAt(fd, 16) !== 0) {
      const why = this.#why();
      closeSync(fd);
      throw new CodedError('EINVAL', `can't listen at ${path}: ${why}`);
    }
    chmodSync(path, 0o600);
    return fd;
  }

  endListening(listener: number, path: string): void {
    closeSync(listener);
    rmSync(path, { force: true });
  }

  connect(path: string): number {
    const address = addressOf(path);
    const fd = this.#must('socket', this.#socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0));
    if (this.#connectTo(fd, address, address.length) === 0) return fd;
    const why = this.#why();
    closeSync(fd);
    throw new CodedError('ENOENT', `${path}: no back end listens there (${why})`);
  }

  accept(listener: number): number {
    return this.#accept4(listener, null, null, SOCK_FLAGS);
  }

  receive(socket: number, target: Uint8Array, fds: number[]): number {
    const view = this.#view;
    this.#prepare(Math.min(target.length, DATA_BYTES), CONTROL_BYTES);
    const count = this.#recvmsg(socket, this.#block, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0) return this.#isAgain() ? NOTHING_YET : BROKEN;
    const controlBytes = view.getUint32(MSG_CONTROLLEN, true);
    for (let at = CONTROL_AT; at + CMSG_BYTES <= CONTROL_AT + controlBytes; ) {
      const lengthBytes = view.getUint32(at, true);
      if (lengthBytes < CMSG_BYTES) break;
      const isRights = view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS;
      const end = Math.min(at + lengthBytes, CONTROL_AT + controlBytes);
      if (isRights) for (let i = at + CMSG_BYTES; i + 4 <= end; i += 4) fds.push(view.getInt32(i, true));
      at += Math.ceil(lengthBytes / 8) * 8;
    }
    // The kernel closed what had no room.
    if ((view.getInt32(MSG_FLAGS, true) & MSG_CTRUNC) !== 0) return BROKEN;
    target.set(this.#bytes.subarray(DATA_AT, DATA_AT + count));
    return count;
  }

  isOpen(socket: number): boolean {
    const count = this.#recv(socket, this.#taken, 1, MSG_PEEK | MSG_DONTWAIT);
    return count > 0 || (count < 0 && this.#isAgain());
  }

  send(socket: number, bytes: Uint8Array, fds: readonly number[]): boolean {
    const view = this.#view;
    const rightsBytes = fds.length === 0 ? 0 : CMSG_BYTES + 4 * fds.length;
    this.#prepare(bytes.length, Math.ceil(rightsBytes / 8) * 8);
    this.#bytes.set(bytes, DATA_AT);
    if (rightsBytes > 0) {
      this.#bytes.fill(0, CONTROL_AT, CONTROL_AT + CONTROL_BYTES);
      view.setUint32(CONTROL_AT, rightsBytes, true);
      view.setInt32(CONTROL_AT + 8, SOL_SOCKET, true);
      view.setInt32(CONTROL_AT + 12, SCM_RIGHTS, true);
      for (const [i, fd] of fds.entries()) view.setInt32(CONTROL_AT + CMSG_BYTES + 4 * i, fd, true);
    }
    return this.#sendmsg(socket, this.#block, MSG_NOSIGNAL | MSG_DONTWAIT) === bytes.length;
  }

  inspect(fd: number): OpenFile | undefined {
    try {
      const status = fstatSync(fd);
      // An eventfd has no type of its own.
      const isEvent = status.isFIFO() || (status.mode & S_IFMT) === 0;
      const kind = status.isFile() ? 'file' : isEvent ? 'event' : 'other';
      return { kind, sizeBytes: status.size, blockBytes: status.blksize };
    } catch {
      return undefined;
    }
  }

  seal(fd: number): boolean {
    const seals = this.#fcntl(fd, F_GET_SEALS, 0);
    if (seals < 0) return false;
    return (seals & F_SEAL_SHRINK) !== 0 || this.#fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) === 0;
  }

  map(fd: number, offsetBytes: number, lengthBytes: number): Mapping | undefined {
    const blockBytes = Math.max(4096, this.inspect(fd)?.blockBytes ?? 0);
    const skippedBytes = offsetBytes % blockBytes;
    const mappedBytes = Math.ceil((skippedBytes + lengthBytes) / blockBytes) * blockBytes;
    const flags = MAP_SHARED | MAP_NORESERVE;
    const address = this.#mmap(null, mappedBytes, PROT_READ_WRITE, flags, fd, offsetBytes - skippedBytes);
    // MAP_FAILED
    if (BigInt.asIntN(64, address) === -1n) return undefined;
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < lengthBytes; at += PIECE_BYTES) {
      const from = address + BigInt(skippedBytes + at);
      pieces.push(new Uint8Array(this.#koffi.view(from, Math.min(PIECE_BYTES, lengthBytes - at))));
    }
    let isMapped = true;
    const unmap = (): void => {
      if (!isMapped) return;
      isMapped = false;
      pieces.length = 0;
      this.#munmap(address, mappedBytes);
    };
    return { pieces, unmap };
  }

  createMemory(name: string, lengthBytes: number): number {
    const fd = this.#must('memfd_create', this.#memfdCreate(name, MFD_CLOEXEC_ALLOW_SEALING));
    if (this.#ftruncate(fd, lengthBytes) === 0) return fd;
    const why = this.#why();
    closeSync(fd);
    throw new CodedError('EIO', `no shared memory of ${lengthBytes} bytes: ${why}`);
  }

  createEvent(): number {
    return this.#must('eventfd', this.#eventfd(0, EFD_FLAGS));
  }

  watch(fd: number, onReady: () => void): EndWatch | undefined {
    const view = new DataView(this.#event.buffer);
    view.setUint32(0, EPOLLIN, true);
    view.setInt32(EPOLL_DATA, fd, true);
    if (this.#epollCtl(this.#epoll, EPOLL_CTL_ADD, fd, this.#event) !== 0) return undefined;
    this.#watched.set(fd, onReady);
    // One file descriptor for all in Node's own loop: given one that can't be polled, koffi ends the process.
    this.#poll ??= this.#koffi.node.poll(this.#epoll, { readable: true }, () => this.#dispatch());
    return () => {
      if (this.#watched.get(fd) !== onReady) return;
      this.#watched.delete(fd);
      // Closing it would not do: the other side has the same event.
      this.#epollCtl(this.#epoll, EPOLL_CTL_DEL, fd, this.#event);
      if (this.#watched.size > 0) return;
      this.#poll?.close();
      this.#poll = undefined;
    };
  }

  setNonBlocking(fd: number): boolean {
    const flags = this.#fcntl(fd, F_GETFL, 0);
    return flags >= 0 && this.#fcntl(fd, F_SETFL, flags | O_NONBLOCK) === 0;
  }

  takeEvent(fd: number): number {
    const count = this.#read(fd, this.#taken, 8);
    if (count > 0) return 1;
    return count < 0 && this.#isAgain() ? NOTHING_YET : BROKEN;
  }

  sendEvent(fd: number): void {
    this.#write(fd, this.#one, 8);
  }

  close(fd: number): void {
    closeSync(fd);
  }

  dispose(): void {
    this.#watched.clear();
    this.#poll?.close();
    this.#poll = undefined;
    closeSync(this.#epoll);
    this.#koffi.free(this.#block);
  }

  /** Takes no more than it can handle in one go: what is still ready comes with the next turn of the loop. */
  #dispatch(): void {
    const count = this.#epollWait(this.#epoll, this.#events, EPOLL_EVENTS, 0);
    // One that an earlier one ended is not watched any more.
    for (let i = 0; i < count; i++) {
      const onReady = this.#watched.get(this.#eventsView.getInt32(EPOLL_EVENT_BYTES * i + EPOLL_DATA, true));
      try {
        onReady?.();
      } catch (error) {
        // Through a foreign frame it would not come to anybody's notice.
        systemTimers.soon(() => {
          throw error;
        });
      }
    }
  }

  /** Fills in the header of a message whose data and control data lie in the block. */
  #prepare(dataBytes: number, controlBytes: number): void {
    const view = this.#view;
    this.#bytes.fill(0, 0, IOV_AT);
    view.setBigUint64(IOV_AT, this.#address + BigInt(DATA_AT), true);
    view.setBigUint64(IOV_AT + 8, BigInt(dataBytes), true);
    view.setBigUint64(MSG_IOV, this.#address + BigInt(IOV_AT), true);
    view.setBigUint64(MSG_IOVLEN, 1n, true);
    if (controlBytes === 0) return;
    view.setBigUint64(MSG_CONTROL, this.#address + BigInt(CONTROL_AT), true);
    view.setBigUint64(MSG_CONTROLLEN, BigInt(controlBytes), true);
  }

  #isAgain(): boolean {
    const { EAGAIN, EINTR } = this.#koffi.os.errno;
    const errno = this.#koffi.errno();
    return errno === EAGAIN || errno === EINTR;
  }

  #must(what: string, result: number): number {
    if (result >= 0) return result;
    throw new CodedError('EIO', `${what} failed: ${this.#why()}`);
  }

  #why(): string {
    const errno = this.#koffi.errno();
    return Object.entries(this.#koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  }
}

/** @throws CodedError EINVAL for a path that the kernel has no room for */
function addressOf(path: string): Uint8Array {
  const name = new TextEncoder().encode(path);
  if (name.length >= SUN_PATH_BYTES || name.length === 0 || name.includes(0)) {
    throw new CodedError('EINVAL', `--socket: expected a path of up to ${SUN_PATH_BYTES - 1} bytes, got ${path}`);
  }
  const address = new Uint8Array(SUN_PATH + name.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, SUN_PATH);
  return address;
}
