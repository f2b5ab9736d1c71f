// The hot path: one machine client, one token, the same GET again and again, as fast as the virtual users can.
//
//   loadtest/run.sh                  with a demo of its own; keeps the summary in loadtest/results/
//   k6 run loadtest/hot.js           against `portcullis demo` on its usual ports
//
// GATEWAY_URL, ISSUER_URL   where the gateway and the issuer's realm are
// VUS, DURATION             16, 10s; a longer run than the token's 300 s needs another script
// SUMMARY                   file for the summary as JSON; without it only the text is printed
// LABELS                    a JSON object that is copied into that file: versions, machine

import { check } from 'k6';
import http from 'k6/http';

const gateway = __ENV.GATEWAY_URL || 'http://127.0.0.1:8072';
const issuer = __ENV.ISSUER_URL || 'http://127.0.0.1:8180/realms/eazybank';
const vus = Number(__ENV.VUS || 16);
const duration = __ENV.DURATION || '10s';

export const options = {
  scenarios: {
    hot: {
      executor: 'constant-vus',
      vus,
      duration,
      gracefulStop: '5s',
    },
  },
  // About correctness under load. The time limit is generous, because on a small machine k6 itself takes most of
  // the processor: it catches a stall, not a slow-down. Speed is compared with benches.
  thresholds: {
    'http_req_failed{scenario:hot}': ['rate<0.001'],
    'http_req_duration{scenario:hot}': ['p(95)<250'],
    'http_reqs{scenario:hot}': ['count>1000'],
    checks: ['rate>0.999'],
  },
  summaryTrendStats: ['min', 'med', 'avg', 'p(95)', 'p(99)', 'max'],
};

export function setup() {
  const answer = http.post(`${issuer}/protocol/openid-connect/token`, {
    grant_type: 'client_credentials',
    client_id: 'eazybank-accounts-reader-cc',
    client_secret: 'demo-only-accounts-reader-cc',
    scope: 'accounts:read',
  });
  if (answer.status !== 200) {
    throw new Error(`no token from ${issuer}: ${answer.status} ${answer.body || answer.error}`);
  }
  return { headers: { Authorization: `Bearer ${answer.json('access_token')}` } };
}

export default function (call) {
  const answer = http.get(`${gateway}/eazybank/accounts/api/fetch`, call);
  check(answer, {
    'status is 200': (r) => r.status === 200,
    'the service answered, not the gateway': (r) => !r.headers['Content-Type'].startsWith('application/problem+json'),
  });
}

export function handleSummary(data) {
  const values = (name) => data.metrics[name].values;
  const failed = Object.entries(data.metrics).flatMap(([name, metric]) =>
    Object.entries(metric.thresholds || {})
      .filter(([, threshold]) => !threshold.ok)
      .map(([expression]) => `${name}: ${expression}`),
  );
  const requests = values('http_reqs{scenario:hot}');
  const times = values('http_req_duration{scenario:hot}');
  const summary = {
    ...JSON.parse(__ENV.LABELS || '{}'),
    virtual_users: vus,
    duration,
    requests: requests.count,
    requests_per_second: Math.round(requests.rate),
    failed_share: values('http_req_failed{scenario:hot}').rate,
    checks_passed_share: values('checks').rate,
    milliseconds: times,
    thresholds_failed: failed,
  };
  const text =
    `${summary.requests} requests, ${summary.requests_per_second}/s, ` +
    `p95 ${times['p(95)'].toFixed(2)} ms, p99 ${times['p(99)'].toFixed(2)} ms, ` +
    `failed ${(100 * summary.failed_share).toFixed(3)} %\n` +
    failed.map((line) => `threshold crossed: ${line}\n`).join('');

  const outputs = { stdout: text };
  if (__ENV.SUMMARY) {
    outputs[__ENV.SUMMARY] = `${JSON.stringify(summary, null, 2)}\n`;
  }
  return outputs;
}
