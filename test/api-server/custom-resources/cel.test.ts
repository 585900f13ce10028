/**
 * Rules in CEL of custom kinds: what they may say, what they may call, and what they may cost.
 */
import t from 'tap';
import type { Json } from '../api.ts';
import { crd, crontab, faultsOf, kindOf, object, written } from './custom-kinds.ts';

t.test('rules in CEL', async (t) => {
  const rules = (...list: Json[]) => ({ 'x-kubernetes-validations': list });
  const kind = kindOf({
    spec: object(
      {
        min: { type: 'integer' },
        max: { type: 'integer' },
        'x-y': { type: 'string' },
        namespace: { type: 'string' },
        data: {
          type: 'object',
          additionalProperties: { type: 'string' },
          ...rules({ rule: "'constructor' in self && self.all(key, self[key] != 'bad')" }),
        },
        once: { type: 'string', ...rules({ rule: 'self == oldSelf', message: 'is set once' }) },
        size: { type: 'string', ...rules({ rule: "quantity(self).isLessThan(quantity('1Gi'))" }) },
        host: { type: 'string', ...rules({ rule: "isURL(self) && url(self).getHost() == 'example.com'" }) },
        network: {
          type: 'string',
          ...rules({ rule: "cidr(self).containsIP('10.1.2.3')", reason: 'FieldValueForbidden' }),
        },
        word: { type: 'string', ...rules({ rule: "self.matches('^[a-z]+$') && self.find('b+') == 'bb'" }) },
        list: {
          type: 'array',
          items: { type: 'integer' },
          ...rules({ rule: 'self.isSorted() && self.sum() < 10 && sets.contains(self, [1])' }),
        },
        when: { type: 'string', format: 'date-time', ...rules({ rule: "self > timestamp('2024-01-01T00:00:00Z')" }) },
        grown: {
          type: 'integer',
          ...rules({ rule: '!oldSelf.hasValue() || self >= oldSelf.value()', optionalOldSelf: true }),
        },
      },
      rules(
        {
          rule: '!has(self.min) || !has(self.max) || self.min <= self.max',
          messageExpression: "'min ' + string(self.min) + ' is above max ' + string(self.max)",
          fieldPath: '.min',
        },
        { rule: "!has(self.x__dash__y) || self.x__dash__y != 'bad'" },
        { rule: "!has(self.__namespace__) || self.__namespace__ != 'bad'" },
      ),
    ),
  });
  const good = {
    min: 1,
    max: 2,
    'x-y': 'a',
    namespace: 'a',
    data: { constructor: 'a' },
    once: 'a',
    size: '5Mi',
    host: 'https://example.com/a',
    network: '10.0.0.0/8',
    word: 'abb',
    list: [1, 2],
    when: '2025-01-01T00:00:00Z',
    grown: 3,
  };
  t.same(written(kind, crontab(good)).faults, []);
  const old = written(kind, crontab(good)).object;
  const cases: [change: Json, fault: string][] = [
    [{ min: 3 }, 'spec.min: Invalid value: "object": min 3 is above max 2'],
    [
      { 'x-y': 'bad' },
      'spec: Invalid value: "object": failed rule: !has(self.x__dash__y) || self.x__dash__y != \'bad\'',
    ],
    [
      { namespace: 'bad' },
      'spec: Invalid value: "object": failed rule: !has(self.__namespace__) || self.__namespace__ != \'bad\'',
    ],
    [{ once: 'b' }, 'spec.once: Invalid value: "b": is set once'],
    [{ size: '2Gi' }, 'spec.size: Invalid value: "2Gi": failed rule: quantity(self).isLessThan(quantity(\'1Gi\'))'],
    [
      { host: '/a' },
      'spec.host: Invalid value: "/a": failed rule: isURL(self) && url(self).getHost() == \'example.com\'',
    ],
    [{ network: '10.2.0.0/16' }, "spec.network: Forbidden: failed rule: cidr(self).containsIP('10.1.2.3')"],
    [
      { word: 'ab' },
      "spec.word: Invalid value: \"ab\": failed rule: self.matches('^[a-z]+$') && self.find('b+') == 'bb'",
    ],
    [
      { list: [2, 1] },
      'spec.list: Invalid value: "array": failed rule: self.isSorted() && self.sum() < 10 && sets.contains(self, [1])',
    ],
    [
      { when: '2023-01-01T00:00:00Z' },
      'spec.when: Invalid value: "2023-01-01T00:00:00Z": failed rule: self > timestamp(\'2024-01-01T00:00:00Z\')',
    ],
    [{ grown: 2 }, 'spec.grown: Invalid value: 2: failed rule: !oldSelf.hasValue() || self >= oldSelf.value()'],
  ];
  for (const [change, fault] of cases)
    t.strictSame(written(kind, crontab({ ...good, ...change }), old).faults, [fault]);

  const broken: [rule: Json, fault: RegExp][] = [
    [{ rule: 'self.max >' }, /rule: .*compilation failed/],
    [{ rule: 'self.maxx > 1' }, /compilation failed: No such key: maxx/],
    [{ rule: 'self.max + 1' }, /must evaluate to a bool, and not to a int/],
    [{ rule: "self.max == 'a'" }, /no such overload: int == string/],
    [{ rule: 'nothing(self.max)' }, /compilation failed/],
    [{ rule: 'other.max > 1' }, /Unknown variable: other/],
    [{ rule: ' ' }, /rule: Required value/],
    [{ rule: 'true', message: 'a\nb' }, /message: .*must be one line/],
    [{ rule: 'true', messageExpression: '1' }, /must evaluate to a string/],
    [{ rule: 'true', fieldPath: '.nothing' }, /fieldPath must be a valid path/],
    [{ rule: 'true', optionalOldSelf: true }, /may not be set if oldSelf is not used/],
  ];
  for (const [rule, fault] of broken) {
    const faults = faultsOf(crd({ spec: object({ max: { type: 'integer' } }, rules(rule)) }));
    t.equal(faults.length, 1, faults.join(' | '));
    t.match(faults[0], fault);
  }
  const lost = crd({ spec: { type: 'array', items: { type: 'string', ...rules({ rule: 'self == oldSelf' }) } } });
  t.match(faultsOf(lost), [/oldSelf cannot be used on the uncorrelatable portion/]);
});

t.test('rules that could cost too much are refused with the definition', async (t) => {
  const rule = (text: string) => ({ 'x-kubernetes-validations': [{ rule: text }] });
  const text = (more: object = {}): Json => ({ type: 'string', ...more });
  const list = (items: Json, more: object = {}): Json => ({ type: 'array', items, ...more });
  const map = (values: Json, more: object = {}): Json => ({ type: 'object', additionalProperties: values, ...more });
  const integer = { type: 'integer' };
  const pattern = `self.matches('^${'[a-z]{2}'.repeat(30)}$')`;
  const pairs = 'self.all(a, self.all(b, a == b || a + b > 0))';
  const texts = "self.all(a, self.all(b, a == b || a + b == 'ab'))";
  const split = "self.map(x, x.split('a')).all(y, y.all(z, self.exists(w, w == z)))";
  const bind = 'cel.bind(x, self, x.all(a, x.all(b, a >= b)))';
  const cases: readonly (readonly [name: string, spec: Json, bounds?: string])[] = [
    ['one loop', list(integer, rule('self.all(a, a > 0)'))],
    ['two loops', list(integer, rule(pairs)), 'maxItems of spec.list'],
    ['two loops, bounded', list(integer, { maxItems: 500, ...rule(pairs) })],
    ['two loops, hardly bounded', list(integer, { maxItems: 5_000, ...rule(pairs) }), 'lower the bounds'],
    ['a pattern', text(rule("self.matches('^[a-z]+$')"))],
    ['a long pattern', text(rule(pattern)), 'maxLength of spec.list'],
    ['a long pattern, bounded', text({ maxLength: 1_000, ...rule(pattern) })],
    ['a rule on each item', list(text(rule("self.contains('a')"))), 'maxItems of spec.list, maxLength of spec.list[*]'],
    ['each of few items', list(text({ maxLength: 60, ...rule("self.contains('a')") }), { maxItems: 1_000 })],
    [
      'values of a map',
      map(list(text(), rule("self.exists(x, x.startsWith('a'))"))),
      'maxProperties of spec.list, maxItems of spec.list.*',
    ],
    [
      'text in a struct',
      object({ 'a-b': list(text()) }, rule("self.a__dash__b.all(x, x.matches('^a+$'))")),
      'maxLength of spec.list.a-b[*], maxItems of spec.list.a-b',
    ],
    ['of a date', list(text({ format: 'date-time', ...rule('self == self') }), { maxItems: 100 })],
    ['of an enumeration', list(text({ enum: ['a', 'b'] }), { maxItems: 300, ...rule(texts) })],
    ['of what a function made', list(text({ maxLength: 20 }), { maxItems: 50, ...rule(split) })],
    ['a set in a set', list(text({ maxLength: 10 }), rule('sets.contains(self, self)')), 'maxItems of spec.list'],
    ['what is bound to a name', list(integer, rule(bind)), 'maxItems of spec.list'],
  ];
  const exceeds = /rule: Forbidden: estimated rule cost exceeds budget by a factor of (more than 100|[\d.]+)x/;
  for (const [name, spec, bounds] of cases) {
    const faults = faultsOf(crd({ spec: object({ list: spec }) }));
    t.equal(faults.length, bounds === undefined ? 0 : 1, `${name}: ${faults.join(' | ')}`);
    if (bounds === undefined) continue;
    t.match(faults[0], exceeds);
    t.ok(faults[0]?.includes(bounds), `${name}: ${faults[0]}`);
  }
  const messageExpression = "self.map(x, self.map(y, x + y).join(',')).join(',')";
  const said = { 'x-kubernetes-validations': [{ rule: 'true', messageExpression }] };
  t.match(faultsOf(crd({ spec: object({ list: list(text(), said) }) })), [
    /\[0\].messageExpression: Forbidden: estimated/,
  ]);
  const one = list(integer, rule('self.all(a, a > 0)'));
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`list${index}`, one]));
  const whole = faultsOf(crd({ spec: object(many) }));
  t.match(whole[0], /openAPIV3Schema: Forbidden: estimated cost of all x-kubernetes-validations exceeds the budget/);
  t.match(whole[1], /x-kubernetes-validations\[0\].rule: Forbidden: contributes to/);
  const before = crd({ spec: object({ list: list(integer, rule(pairs)) }) });
  const after = { ...before, spec: { ...before.spec, names: { ...before.spec.names, shortNames: ['ct'] } } };
  t.same(faultsOf(after, before), [], 'what stands already is not judged again');
});

t.test("Kubernetes' functions in CEL", async (t) => {
  const holds = [
    "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && [1, 2].indexOf(3) == -1",
    "[1, 1, 2].isSorted() && !['b', 'a'].isSorted() && [1.5, 2.5].sum() == 4.0",
    "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
    "'héllo'.charAt(1) == 'é' && 'a-b-c'.replace('-', '+', 1) == 'a+b-c' && 'A,B'.lowerAscii().split(',').join('') == 'ab'",
    'sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])',
    "url('https://user@example.com:8080/a%20b?x=1&x=2#f').getHost() == 'example.com:8080' && url('/a').getScheme() == ''",
    "url('https://[::1]:80/').getHostname() == '::1' && url('http://a:81').getPort() == '81' && url('http://a/b?x=1&x=2').getQuery()['x'] == ['1', '2']",
    "url('http://a/b%20c').getEscapedPath() == '/b%20c' && !isURL('a b') && isURL('/path')",
    "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && !ip('10.0.0.1').isLoopback() && ip('10.0.0.1').isGlobalUnicast() && string(ip('::1')) == '::1'",
    "isIP('::1') && !isIP('1.2.3') && isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && ip('fe80::1').isLinkLocalUnicast()",
    "cidr('192.168.0.0/16').containsCIDR('192.168.1.0/24') && !cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/16')) && cidr('::/0').prefixLength() == 0",
    "cidr('192.168.3.7/16').masked() == cidr('192.168.0.0/16') && cidr('2001:db8::5/64').masked().ip() == ip('2001:db8::')",
    "quantity('1.5Gi').add(quantity('512Mi')) == quantity('2Gi') && quantity('2k').sub(1) == quantity('1999') && quantity('-1').sign() == -1",
    "quantity('50k').isInteger() && quantity('50k').asInteger() == 50000 && quantity('1500m').asApproximateFloat() == 1.5 && quantity('1').compareTo(quantity('1000m')) == 0",
    "!isQuantity('1Ga') && isQuantity('1Gi') && ip.isCanonical('::1') && !ip.isCanonical('0:0::1')",
    "'%s has %d of %.1f%% in %x'.format(['a', 3, 2.55, 255]) == 'a has 3 of 2.5% in ff' || '%d'.format([1]) == '1'",
    "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').value().size() == 1 && format.named('uuid').hasValue()",
    'cel.bind(x, [1, 2].map(n, n * n), x == [1, 4]) && [1, 2, 3].filter(n, n > 1).exists_one(n, n == 3)',
    "duration('1h') > duration('59m') && timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
    "self.?name.orValue('none') == 'none' && !has(self.name) && type(self) != type(1)",
    "self.?name.optMap(n, n + '!').orValue('none') == 'none' && optional.of('a').optMap(n, n + '!').value() == 'a!'",
    '[1, 5].all(x, optional.of(x).optFlatMap(n, n > 3 ? optional.of(n * x) : optional.none()).orValue(0) == (x > 3 ? 25 : 0))',
    'optional.of([1, 2]).optMap(l, l.map(n, optional.of(n).optMap(m, m + n).value())).value() == [2, 4]',
  ];
  const rules = holds.map((rule) => ({ rule }));
  const kind = kindOf({ spec: object({ name: { type: 'string' } }, { 'x-kubernetes-validations': rules }) });
  t.strictSame(written(kind, crontab({})).faults, []);
  for (const [rule, why] of [
    ['self.?name.optMap(1, 2).hasValue()', /wants a name as its first argument/],
    ['self.optMap(n, 2).hasValue()', /optional/],
    ['self.?name.optFlatMap(n, 2).hasValue()', /must come to an optional value/],
  ] as const)
    t.match(faultsOf(crd({ spec: object({}, { 'x-kubernetes-validations': [{ rule }] }) }))[0], why);
  for (const rule of ['!'.repeat(5000) + 'true', '-'.repeat(5000) + '1 == 1', '1' + '+1'.repeat(5000) + ' == 5001'])
    t.match(
      faultsOf(crd({ spec: object({}, { 'x-kubernetes-validations': [{ rule }] }) }))[0],
      /no more than 500 operators/,
      `${rule.slice(0, 8)}…`,
    );
  const twice = [{ rule: "self.name != ''" }, { rule: "self.name != ''", message: 'again' }];
  const repeated = object({ name: { type: 'string' } }, { 'x-kubernetes-validations': twice });
  t.strictSame(faultsOf(crd({ spec: repeated })), [], 'a rule may stand twice, with two messages');
});
