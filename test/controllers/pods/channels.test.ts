/** The channels of a WebSocket, and the sizes of a terminal that come on one of them, as a client that does as it likes may use them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { Channels } from '../../../controllers/pods/server/channels.ts';
import { resizeAsAsked } from '../../../controllers/pods/server/remote-command.ts';
import { runs } from '../../harness/runs.ts';

const CLOSE = 255;
const COUNT = 5;

const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(server, 'listening');
t.teardown(() => server.close());

/** Both ends of a connection. */
async function connected(): Promise<{ client: WebSocket; accepted: WebSocket }> {
  const accepting = once(server, 'connection') as Promise<[WebSocket]>;
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  client.on('error', () => undefined);
  const [[accepted]] = await Promise.all([accepting, once(client, 'open')]);
  return { client, accepted };
}

type Message = { readonly text: string } | { readonly bytes: Buffer };

const message: fc.Arbitrary<Message> = fc.oneof(
  fc
    .tuple(fc.nat(COUNT), fc.uint8Array({ maxLength: 80 }))
    .map(([channel, content]) => ({ bytes: Buffer.from([channel, ...content]) })),
  fc.nat(COUNT).map((channel) => ({ bytes: Buffer.from([CLOSE, channel]) })),
  fc.uint8Array({ maxLength: 4 }).map((content) => ({ bytes: Buffer.from(content) })),
  fc.string({ maxLength: 5, unit: 'binary' }).map((text) => ({ text })),
);

const bytesOf = (one: Message): Buffer => ('text' in one ? Buffer.from(one.text) : one.bytes);

/** What a channel says to its reader: everything up to its close. */
function expected(messages: readonly Message[], channel: number): Buffer {
  const all = messages.map(bytesOf);
  const end = all.findIndex((one) => one[0] === CLOSE && one[1] === channel);
  return Buffer.concat(
    all
      .slice(0, end < 0 ? all.length : end)
      .filter((one) => one[0] === channel)
      .map((one) => one.subarray(1)),
  );
}

t.test('whatever is sent, each channel says what was said on it, up to its close', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 20 }), async (messages) => {
      const { client, accepted } = await connected();
      const channels = new Channels(accepted, COUNT);
      const heard = Array.from({ length: COUNT }, (_, channel): Buffer[] => {
        const chunks: Buffer[] = [];
        channels.of(channel).on('data', (chunk: Buffer) => chunks.push(chunk));
        return chunks;
      });
      const closed = once(accepted, 'close');
      for (const one of messages) client.send('text' in one ? one.text : one.bytes);
      client.close();
      await closed;
      for (let channel = 0; channel < COUNT; channel++) {
        assert.deepEqual(Buffer.concat(heard[channel] ?? []), expected(messages, channel));
        assert.ok(channels.of(channel).destroyed);
      }
    }),
    { numRuns: runs(60) },
  );
});

t.test('a terminal has whole sizes only, whatever is said of them and in whatever pieces', async () => {
  const size = fc.record({ Width: fc.nat(70_000), height: fc.oneof(fc.nat(70_000), fc.constant('x')) });
  const said = fc.oneof(
    fc.string({ maxLength: 6 }),
    fc.constantFrom('{', '}', '{}', 'null', '[1]', '{"Width":', '{"WIDTH":80,"height":24}'),
    size.map((value) => JSON.stringify(value)),
    fc.integer({ min: 1, max: 3_000 }).map((length) => '{'.repeat(length)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(said, { maxLength: 10 }), async (pieces) => {
      const sizes: number[] = [];
      const resize = async (width: number, height: number) => void sizes.push(width, height);
      await resizeAsAsked(Readable.from([...pieces, '}', '{"width":80,', '"HEIGHT":24}']), { resize });
      assert.ok(sizes.every((each) => Number.isInteger(each) && each > 0 && each <= 0xffff));
      assert.deepEqual(sizes.slice(-2), [80, 24], 'and the last one holds, whatever came before it');
    }),
    { numRuns: runs(200) },
  );
});
