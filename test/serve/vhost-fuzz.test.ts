import { describe, expect, test } from 'vitest';
import { fuzzVhostUser, type Host, VhostUserServer, type VhostUserServerOptions } from '../../src/serve/index.ts';

describe('hostile front ends against the vhost-user back end', () => {
  test('nothing is thrown, leaked or touched too late, and the next front end is served', async () => {
    const report = await fuzzVhostUser({ episodeCount: 200, seed: 1 });
    expect(report.failure).toBeUndefined();
    // It got through to the disk, and met what is refused.
    expect(report.requestCount).toBeGreaterThan(2 * report.episodeCount);
    expect(report.brokenRingCount).toBeGreaterThan(50);
    expect(report.droppedCount).toBeGreaterThan(200);
    expect(report.answerCount).toBeGreaterThan(2000);
  });

  /** Starts a server on a host with one call of it done wrong. */
  function broken(
    change: (host: Host) => Partial<Host>,
  ): (options: VhostUserServerOptions) => Promise<VhostUserServer> {
    return (options) => {
      const host = options.host!;
      const changes = change(host);
      const wrong = new Proxy(host, {
        get: (target, name) => {
          const value = Reflect.get({ ...changes, name: undefined }, name) ?? Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      return VhostUserServer.start({ ...options, host: wrong });
    };
  }

  test.each([
    [
      'file descriptors that are not closed',
      (host: Host) => ({ close: (fd: number) => void (fd % 8 && host.close(fd)) }),
    ],
    [
      'file descriptors that are closed twice',
      (host: Host) => ({ close: (fd: number) => [fd, fd].forEach((each) => void host.close(each)) }),
    ],
    [
      'memory that stays mapped',
      (host: Host) => ({
        map: (fd: number, at: number, length: number) => {
          const mapping = host.map(fd, at, length);
          return mapping && { pieces: mapping.pieces, unmap: () => undefined };
        },
      }),
    ],
    [
      'memory that is touched after it was unmapped',
      (host: Host) => ({
        map: (fd: number, at: number, length: number) => {
          const mapping = host.map(fd, at, length);
          mapping?.unmap();
          return mapping && { pieces: mapping.pieces, unmap: () => undefined };
        },
      }),
    ],
    ['an event that is not taken', () => ({ takeEvent: () => 1 })],
  ] as const)('it notices %s', async (_what, change) => {
    const startServer = broken(change);
    const { failure } = await fuzzVhostUser({ episodeCount: 20, seed: 1, startServer });
    expect(failure).toBeDefined();
    const again = await fuzzVhostUser({ episodeCount: 1, seed: failure!.seed, startServer });
    expect(again.failure).toEqual(failure);
  });
});
