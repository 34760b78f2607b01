// A small Linux machine: Debian's cloud kernel, an initramfs of busybox and mke2fs, QEMU without KVM. Shared by the checks
// that let a real kernel drive a disk of powercut.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Programs that are needed, with Debian's packages. */
const TOOLS = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  cpio: 'cpio',
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'dpkg-deb': 'dpkg',
};
/** In the order in which they need each other; the list is gone through twice, as kernels differ. */
const MODULES = ['virtio', 'virtio_ring', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_blk'];

export function has(tool) {
  return (
    spawnSync('sh', ['-c', `command -v ${tool} || test -x /sbin/${tool} || test -x /usr/sbin/${tool}`]).status === 0
  );
}

function sh(command, options = {}) {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8', ...options });
  if (status !== 0) throw new Error(`${command}: ended with ${status}: ${stderr.trim().slice(-500)}`);
  return stdout.trim();
}

/** Installs what is missing, where that is possible. @returns why there can be no machine, or undefined */
export function prepare() {
  const missing = () => Object.keys(TOOLS).filter((tool) => !has(tool));
  if (missing().length > 0 && process.getuid?.() === 0 && has('apt-get')) {
    const packages = [...new Set(missing().map((tool) => TOOLS[tool]))];
    console.log(`installing ${packages.join(', ')}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    spawnSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env });
    spawnSync('apt-get', ['install', '-qq', '-y', '--no-install-recommends', ...packages], { stdio: 'ignore', env });
  }
  const [tool] = missing();
  return tool === undefined ? undefined : `there is no ${tool}: Debian's package ${TOOLS[tool]}`;
}

/**
 * Makes kernel and initramfs in `folder`.
 * @param script the guest's, run by busybox's shell as init once /dev/vda is there
 * @param programs of this machine that it finds in /real
 * @throws where the kernel's package can't be had
 */
export function makeMachine(folder, script, programs = ['mke2fs']) {
  const kernel = join(folder, 'kernel');
  if (!existsSync(kernel)) {
    // As root apt fetches as itself: the folder is not readable for the user that it would become.
    const names = sh('apt-cache depends linux-image-cloud-amd64').match(/linux-image-\S*-cloud-amd64/g) ?? [];
    const name = names.find((each) => each !== 'linux-image-cloud-amd64');
    if (name === undefined) throw new Error('apt knows no linux-image-cloud-amd64');
    sh(`apt-get -o APT::Sandbox::User=root download ${name}`, { cwd: folder });
    const deb = readdirSync(folder).find((each) => each.startsWith('linux-image') && each.endsWith('.deb'));
    sh(`dpkg-deb -x ${deb} kernel`, { cwd: folder });
  }
  const root = join(folder, 'root');
  for (const part of ['bin', 'real', 'm', 'proc', 'sys', 'dev', 'mnt', 'etc'])
    mkdirSync(join(root, part), { recursive: true });
  for (const module of MODULES) {
    const path = sh(`find ${kernel} -name ${module}.ko -o -name ${module}.ko.xz | head -1`);
    if (path !== '') copyFileSync(path, join(root, 'm', basename(path)));
  }
  copyFileSync(sh('command -v busybox'), join(root, 'bin/busybox'));
  for (const program of programs) copyWithLibraries(program, root);
  const init = join(root, 'init');
  writeFileSync(
    init,
    INIT.replace('SCRIPT', () => script),
  );
  chmodSync(init, 0o755);
  sh(`find . | cpio -o -H newc --quiet | gzip -1 > ../init.gz`, { cwd: root });
  return { kernel: sh(`ls ${kernel}/boot/vmlinuz-*`), initrd: join(folder, 'init.gz') };
}

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for round in 1 2; do for m in ${MODULES.join(' ')}; do for f in /m/$m.ko*; do insmod $f 2>/dev/null; done; done; done
for i in $(seq 100); do [ -b /dev/vda ] && break; sleep 0.1; done
SCRIPT
poweroff -f
`;

/** A program and the libraries that it loads, at the same paths. */
function copyWithLibraries(name, root) {
  const path = sh(`command -v ${name} || ls /usr/sbin/${name} /sbin/${name} 2>/dev/null | head -1`).split('\n')[0];
  // Not in bin: busybox has one of the same name there, which makes no ext4.
  copyFileSync(path, join(root, 'real', name));
  for (const library of new Set(sh(`ldd ${path}`).match(/\/\S+/g) ?? [])) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
}

const MEMORY_MIB = 512;
/** QEMU's arguments for memory that another process can map: what vhost-user needs. */
export const SHARED_MEMORY = [
  '-object',
  `memory-backend-memfd,id=mem,size=${MEMORY_MIB}M,share=on`,
  '-numa',
  'node,memdev=mem',
];

/**
 * Boots the machine.
 * @param disk QEMU's arguments for the disk
 * @param onLine is told each line of the console
 * @returns how to pull its plug, and when it has ended
 */
export function boot({ kernel, initrd }, disk, append, onLine, timeoutMs = 240_000) {
  const args = [
    '-accel',
    'tcg,thread=multi',
    '-cpu',
    'max',
    '-M',
    'q35',
    '-m',
    String(MEMORY_MIB),
    '-nodefaults',
    '-display',
    'none',
  ];
  const child = spawn(
    'qemu-system-x86_64',
    [...args, '-no-reboot', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd, ...disk].concat(
      '-append',
      `console=ttyS0 panic=-1 quiet ${append}`,
    ),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const lines = [];
  let rest = '';
  let errors = '';
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  child.stdout.on('data', (chunk) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop();
    for (const line of parts.map((each) => each.trimEnd())) {
      lines.push(line);
      onLine?.(line);
    }
  });
  const ended = new Promise((resolve) => {
    child.on('close', () => {
      clearTimeout(timer);
      resolve({ lines, errors });
    });
  });
  return { kill: () => child.kill('SIGKILL'), ended };
}
