/** SPDY/3.1 as it comes from a network: in any pieces, with any faults, and with a peer that does as it likes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { constants, createDeflate, inflateSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { encodeFrame, FrameReader, type Frame } from '../../../controllers/pods/server/spdy/frames.ts';
import {
  DICTIONARY,
  HeaderReader,
  HeaderWriter,
  MAX_HEADER_BYTES,
} from '../../../controllers/pods/server/spdy/header-block.ts';
import { SpdySession, type SpdyStream } from '../../../controllers/pods/server/spdy/session.ts';
import { runs } from '../../harness/runs.ts';
import type { Teardown } from '../../harness/servers.ts';

const bytes = (maxLength = 200) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const streamId = fc.integer({ min: 1, max: 0x7fffffff });
const frame = fc
  .oneof(
    fc.record({ type: fc.constantFrom('open', 'reply', 'headers'), streamId, block: bytes(), last: fc.boolean() }),
    fc.record({ type: fc.constant('data'), streamId, bytes: bytes(), last: fc.boolean() }),
    fc.record({ type: fc.constant('reset'), streamId, status: fc.nat({ max: 0xffffffff }) }),
    fc.record({ type: fc.constant('ping'), id: fc.nat({ max: 0xffffffff }) }),
    fc.record({ type: fc.constant('goaway') }),
  )
  .map((record) => ({ ...record }) as Frame);

/** Data may come in several pieces; here they are put together again. */
function joined(frames: readonly Frame[]): Frame[] {
  const whole: Frame[] = [];
  for (const one of frames) {
    const before = whole.at(-1);
    if (one.type === 'data' && before?.type === 'data' && before.streamId === one.streamId)
      whole[whole.length - 1] = { ...one, bytes: Buffer.concat([before.bytes, one.bytes]) };
    else whole.push(one);
  }
  return whole;
}

function readAll(wire: Buffer, sizes: readonly number[]): Frame[] {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  let at = 0;
  for (let index = 0; at < wire.length; index++) {
    const size = sizes[index % sizes.length] ?? 1;
    frames.push(...reader.push(wire.subarray(at, at + size)));
    at += size;
  }
  return frames;
}

t.test('frames come out as they went in, however the network cuts them', async () => {
  fc.assert(
    fc.property(
      // Neighbouring pieces of data on one stream cannot be told from one frame's: each has a stream of its own.
      fc.uniqueArray(frame, {
        selector: (one) => ('streamId' in one ? one.streamId : JSON.stringify(one)),
        maxLength: 8,
      }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 }),
      (frames, sizes) => {
        const wire = Buffer.concat(frames.flatMap((one) => [...encodeFrame(one)]));
        assert.deepEqual(joined(readAll(wire, sizes)), frames);
      },
    ),
    { numRuns: runs(200) },
  );
});

t.test('whatever the bytes: frames or a FrameError, and the same in any pieces', async () => {
  const outcome = (wire: Buffer, sizes: readonly number[]): string => {
    try {
      return JSON.stringify(joined(readAll(wire, sizes)));
    } catch (error) {
      return (error as Error).name;
    }
  };
  const mangled = fc.tuple(frame, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([one, place, value]) => {
    const wire = Buffer.concat([...encodeFrame(one)]);
    wire[place % wire.length] = value;
    return wire;
  });
  fc.assert(
    fc.property(fc.oneof(bytes(400), mangled), fc.integer({ min: 1, max: 20 }), (wire, size) => {
      const whole = outcome(wire, [wire.length]);
      assert.match(whole, /^\[|^FrameError$/);
      assert.equal(outcome(wire, [size]), whole);
    }),
    { numRuns: runs(500) },
  );
});

/** A peer that really compresses, as Go does. */
function compressor() {
  const deflate = createDeflate({ dictionary: DICTIONARY });
  return (headers: ReadonlyMap<string, string>): Promise<Buffer> => {
    const number = (value: number) => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value].map((n) => n & 255));
    const parts = [number(headers.size)];
    for (const text of [...headers].flat()) parts.push(number(Buffer.byteLength(text)), Buffer.from(text));
    deflate.write(Buffer.concat(parts));
    return new Promise((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, () => resolve(deflate.read() as Buffer)));
  };
}

const headers = fc
  .dictionary(fc.string({ minLength: 1, maxLength: 20 }), fc.string({ maxLength: 40 }), {
    maxKeys: 5,
    noNullPrototype: true,
  })
  .map((record) => new Map(Object.entries(record).map(([name, value]) => [name.toLowerCase(), value])));

t.test('headers, block after block of one connection', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(headers, { minLength: 1, maxLength: 5 }), async (blocks) => {
      const compress = compressor();
      const reader = new HeaderReader();
      const writer = new HeaderWriter();
      const written: Buffer[] = [];
      for (const block of blocks) {
        assert.deepEqual(await reader.read(await compress(block)), block);
        written.push(writer.write(block));
      }
      reader.close();
      const again = new HeaderReader();
      for (const [index, block] of blocks.entries())
        assert.deepEqual(await again.read(written[index] ?? Buffer.alloc(0)), block);
      again.close();
      const stream = inflateSync(Buffer.concat(written), {
        dictionary: DICTIONARY,
        finishFlush: constants.Z_SYNC_FLUSH,
      });
      assert.ok(stream.length >= 4 * blocks.length, 'zlib itself reads what was written');
    }),
    { numRuns: runs(50) },
  );
});

t.test('what is no header block is refused, and a small one that would become large', async (t) => {
  await fc.assert(
    fc.asyncProperty(bytes(), async (junk) => {
      const reader = new HeaderReader();
      await assert.rejects(reader.read(junk), { name: 'HeaderError' });
      reader.close();
    }),
    { numRuns: runs(100) },
  );
  const bomb = await compressor()(new Map([['a', 'x'.repeat(4 * MAX_HEADER_BYTES)]]));
  t.ok(bomb.length < 2_000);
  await t.rejects(new HeaderReader().read(bomb), { name: 'HeaderError' });
});

/** Damaged as a whole: a block, its length, what it says of its pairs. */
t.test('a header block of which something is changed is read or refused, and so is all that follows', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(headers, { minLength: 1, maxLength: 3 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      async (blocks, changes) => {
        const compress = compressor();
        const reader = new HeaderReader();
        for (const block of blocks) {
          const wire = await compress(block);
          for (const [at, byte] of changes) wire[at % wire.length] = byte;
          await reader.read(wire).catch((error: Error) => assert.equal(error.name, 'HeaderError'));
        }
        reader.close();
      },
    ),
    { numRuns: runs(100) },
  );
});

/** A session at one end of a real connection; the other end is the test's. */
async function session(t: Teardown, onStream: (stream: SpdyStream) => void) {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const peer = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = await accepted;
  t.teardown(() => {
    peer.destroy();
    socket.destroy();
    server.close();
  });
  const reader = new FrameReader();
  const frames: Frame[] = [];
  peer.on('data', (chunk: Buffer) => frames.push(...reader.push(chunk)));
  const ended = new SpdySession(socket, onStream).run();
  const writer = new HeaderWriter();
  const send = (one: Frame): void => encodeFrame(one).forEach((part) => peer.write(part));
  const open = (id: number, given: Record<string, string> = {}) =>
    send({ type: 'open', streamId: id, block: writer.write(new Map(Object.entries(given))), last: false });
  const until = async (wanted: (frames: readonly Frame[]) => boolean): Promise<void> => {
    while (!wanted(frames)) await once(peer, 'data');
  };
  return { peer, socket, frames, ended, send, open, until };
}

t.test('streams', async (t) => {
  const { frames, ended, send, open, until, peer } = await session(t, (stream) => {
    if (stream.headers.get('kind') === 'refused') throw new Error('not wanted');
    stream.pipe(stream);
  });
  open(1, { kind: 'echo' });
  open(3, { kind: 'refused' });
  open(2, { kind: 'not the numbers of a peer' });
  send({ type: 'data', streamId: 1, bytes: Buffer.from('hello'), last: true });
  send({ type: 'data', streamId: 77, bytes: Buffer.from('to nobody'), last: true });
  send({ type: 'ping', id: 9 });
  await until((seen) => seen.some(({ type }) => type === 'ping'));
  t.match(
    frames.filter(({ type }) => type === 'data'),
    [
      { streamId: 1, bytes: Buffer.from('hello'), last: false },
      { streamId: 1, last: true },
    ],
  );
  t.match(
    frames.filter(({ type }) => type === 'reset').map((one) => 'streamId' in one && one.streamId),
    [3, 2],
  );
  peer.end();
  await ended;
});

t.test(
  'a stream that nobody reads holds up the sender; one that is reset, or a peer that goes, frees it',
  async (t) => {
    const opened: SpdyStream[] = [];
    const { ended, send, open, peer } = await session(t, (stream) => opened.push(stream));
    open(1);
    while (opened.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const piece = Buffer.alloc(64 * 1024);
    let sent = 0;
    while (peer.writableLength < 1 << 20 && sent < 256 << 20) {
      send({ type: 'data', streamId: 1, bytes: piece, last: false });
      sent += piece.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.ok(sent < 64 << 20, `after ${sent} bytes the network is full, and memory is not`);
    t.ok((opened[0]?.readableLength ?? 0) < 1 << 20);
    opened[0]?.resume();
    if (peer.writableLength > 0) await once(peer, 'drain');
    t.equal(peer.writableLength, 0, 'and goes on when somebody reads');
    peer.destroy();
    await ended;
    t.ok(opened[0]?.destroyed);
  },
);

t.test('a peer that speaks nonsense is cut off', async (t) => {
  const { ended, peer, socket } = await session(t, () => undefined);
  peer.on('error', () => undefined);
  peer.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(4));
  peer.write(Buffer.from([0x80, 0x02, 0, 1, 0, 0, 0, 0]));
  peer.end();
  await ended.catch((error: Error) => t.match(error.name, /^(Frame|Header)Error$/));
  t.ok(socket.destroyed);
});

t.test('whatever a peer sends, the session ends with it, and so does every stream', async (t) => {
  const hostile = fc.oneof(
    frame.map((one) => Buffer.concat([...encodeFrame(one)])),
    fc
      .tuple(streamId, headers)
      .map(([id, given]) =>
        Buffer.concat([
          ...encodeFrame({ type: 'open', streamId: id, block: new HeaderWriter().write(given), last: false }),
        ]),
      ),
    bytes(60),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(hostile, { maxLength: 12 }), async (pieces) => {
      const opened: SpdyStream[] = [];
      const { ended, peer } = await session(t, (stream) => {
        opened.push(stream);
        stream.pipe(stream);
      });
      peer.on('error', () => undefined);
      for (const piece of pieces) peer.write(piece);
      peer.end();
      await ended.catch((error: Error) => assert.match(error.name, /^(Frame|Header)Error$/));
      assert.ok(opened.every((stream) => stream.destroyed));
      peer.destroy();
    }),
    { numRuns: runs(40) },
  );
});
