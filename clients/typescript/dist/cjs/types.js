"use strict";
// The contract's types: generated ones (openapi.ts), and what OpenAPI cannot say well of them.
Object.defineProperty(exports, "__esModule", { value: true });
