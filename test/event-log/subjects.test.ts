/** Keys, subjects and headers: what goes in comes out, whatever the names. No server. */
import fc from 'fast-check';
import type { MsgHdrs } from 'nats';
import t from 'tap';
import type { LogRecord, Write } from '../../event-log/event-log.ts';
import { messageHeaders, toOutgoing, toRecord } from '../../event-log/record.ts';
import {
  escapeToken,
  filterSubjects,
  guardSubject,
  objectSubject,
  parseSubject,
  streamNames,
} from '../../event-log/subjects.ts';
import { writeOf } from './writes.ts';

const text = fc.oneof(
  fc.string({ minLength: 1, unit: 'grapheme' }),
  fc.constantFrom('core', '_', '%', 'a.b', '*', '>', ' ', '%2E', 'é', '💡', 'x\r\ny', '..'),
);
const key = fc.record({
  group: fc.oneof(text, fc.constant('')),
  resource: text,
  namespace: fc.oneof(text, fc.constant('')),
  name: text,
});

t.test('a subject is read back as the key that made it, and no two keys share one', async (t) => {
  const seen = new Map<string, string>();
  fc.assert(
    fc.property(
      key,
      fc.constantFrom('desired' as const, 'observed' as const, 'ephemeral' as const),
      (object, plane) => {
        const subject = objectSubject('reckon', plane, object);
        const other = seen.get(subject);
        seen.set(subject, JSON.stringify(object));
        const whole = /^[A-Za-z0-9_%.-]+$/.test(subject) && subject.split('.').length === 6;
        return (
          whole &&
          (other === undefined || other === JSON.stringify(object)) &&
          JSON.stringify(parseSubject('reckon', subject)) === JSON.stringify({ plane, key: object })
        );
      },
    ),
    { numRuns: 2_000 },
  );
  t.equal(
    objectSubject('reckon', 'desired', { group: '', resource: 'nodes', namespace: '', name: 'a.b' }),
    'reckon.desired.core.nodes._.a%2Eb',
  );
  t.equal(
    guardSubject('reckon', { group: 'apps', resource: 'deployments', namespace: 'x', name: 'web' }),
    'reckon.*.apps.deployments.x.web',
  );
  t.equal(escapeToken('system:node/1'), 'system%3Anode%2F1');
});

t.test('subjects of nobody are refused', async (t) => {
  for (const subject of [
    'reckon.floor',
    'reckon.desired.a.b.c',
    'reckon.desired.a.b.c.d.e',
    'reckon.other.a.b.c.d',
    'x.desired.a.b.c.d',
    'reckon.desired.a.b.c.%ZZ',
    'reckon.desired.a..c.d',
  ]) {
    t.equal(parseSubject('reckon', subject), undefined, subject);
  }
  t.throws(() => streamNames('a.b'), /may have only letters/);
  t.same(streamNames('reckon'), {
    prefix: 'reckon',
    log: 'RECKON',
    ephemeral: 'RECKON_EPHEMERAL',
    keys: 'RECKON_KEYS',
  });
});

t.test('filters become subjects none of which lies within another', async (t) => {
  const planes = ['desired', 'observed'] as const;
  const pods = { group: '', resource: 'pods' };
  t.same(filterSubjects('r', planes, [pods]), ['r.desired.core.pods.*.*', 'r.observed.core.pods.*.*']);
  t.same(filterSubjects('r', planes, [pods, { ...pods, namespace: 'x' }, { ...pods, plane: 'desired' }]), [
    'r.desired.core.pods.*.*',
    'r.observed.core.pods.*.*',
  ]);
  t.same(
    filterSubjects('r', planes, [
      { ...pods, plane: 'desired' },
      { ...pods, namespace: 'x' },
    ]),
    ['r.desired.core.pods.*.*', 'r.observed.core.pods.x.*'],
  );
  t.same(filterSubjects('r', planes, [{ ...pods, namespace: '' }]), [
    'r.desired.core.pods._.*',
    'r.observed.core.pods._.*',
  ]);
  t.same(filterSubjects('r', planes, undefined), ['r.desired.>', 'r.observed.>', 'r.floor']);
  t.same(filterSubjects('r', ['ephemeral'], [{ ...pods, plane: 'desired' }]), ['r.ephemeral.core.pods.*.*']);
});

/** What another client reads of them. */
function onTheWire(headers: MsgHdrs): ReadonlyMap<string, string> {
  const text = Buffer.from((headers as unknown as { encode(): Uint8Array }).encode()).toString();
  const [version, ...lines] = text.split('\r\n');
  if (version !== 'NATS/1.0') throw new Error(`headers begin with ${version}`);
  return new Map(
    lines
      .filter((line) => line !== '')
      .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]),
  );
}

t.test('a write becomes headers and payload, and these become a record, character by character', async () => {
  const odd = fc.string({ unit: 'grapheme' });
  const write: fc.Arbitrary<Write> = fc
    .record({
      actor: odd,
      requestId: odd,
      uid: fc.string({ minLength: 1, unit: 'grapheme' }),
      padding: odd,
      causes: fc.array(fc.nat(), { maxLength: 8 }),
    })
    .map(({ padding, ...more }) => writeOf('a', 3, { ...more, object: JSON.stringify({ padding }) }));
  fc.assert(
    fc.property(write, fc.boolean(), (given, inTransaction) => {
      const transaction = { id: 'tx', place: 2, count: 5 };
      const outgoing = toOutgoing(given, {
        prefix: 'reckon',
        stream: 'log',
        writeId: 'w-1',
        ...(inTransaction && { transaction }),
      });
      const headers = onTheWire(messageHeaders(outgoing));
      const message = {
        sequence: 7,
        subject: outgoing.subject,
        header: (name: string) => headers.get(name),
        data: outgoing.payload,
        storedAtMs: 0,
      };
      const record = toRecord('reckon', message) as LogRecord;
      const { guard: _guard, object, ...same } = given;
      const wanted = { ...same, object, sequence: 7, writeId: 'w-1', ...(inTransaction && { transaction }) };
      const got = { ...record, object: Buffer.from(record.object).toString() };
      return sorted(got) === sorted(wanted);
    }),
    { numRuns: 500 },
  );
});

t.test('what is no record says why', async (t) => {
  const whole: Record<string, string> = { 'Reckon-Verb': 'update', 'Reckon-Uid': 'u', 'Reckon-Write': 'w' };
  const reason = (more: Record<string, string>, data = '{}', subject = 'reckon.desired.core.pods.x.y') => {
    const headers = { ...whole, ...more };
    return toRecord('reckon', {
      sequence: 1,
      subject,
      header: (name) => headers[name],
      data: Buffer.from(data),
      storedAtMs: 0,
    });
  };
  t.type(reason({}), 'object');
  t.match(reason({ 'Reckon-Verb': 'explode' }), /Reckon-Verb is 'explode'/);
  t.match(reason({ 'Reckon-Uid': '' }), /Reckon-Uid is missing/);
  t.match(reason({ 'Reckon-Write': '' }), /Reckon-Write is missing/);
  t.match(reason({ 'Reckon-Cause': '1,x' }), /not a list of sequences/);
  t.match(reason({ 'Reckon-Transaction': 'id 3 2' }), /malformed/);
  t.match(reason({}, ''), /not a JSON object/);
  t.match(reason({}, '{}', 'reckon.desired.x'), /names no object/);
});

function sorted(value: object): string {
  return JSON.stringify(Object.fromEntries(Object.entries(value).sort()));
}
